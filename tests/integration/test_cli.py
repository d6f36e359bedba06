"""Each command against the running service: for people, with `--json`, with and without a terminal."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import docker
import pytest
from typer.testing import CliRunner

from retort.cli import exits
from retort.cli.main import app
from tests.conftest import Services
from tests.harness import eventually
from tests.integration.shell import Shell, at_terminal
from tests.served import Served, served
from worker.sandbox import images

SLOW = "import time\nfor n in range(400):\n    print('line', n, flush=True)\n    time.sleep(0.05)"


@pytest.fixture(scope="module")
def service(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Everything, started once."""
    with served(services, engine, tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.fixture
def shell(service: Served, tmp_path: Path) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path, service)


# --- run and ask -----------------------------------------------------------------------------------


def test_run_sends_what_was_asked_for_and_exits_as_the_program(shell: Shell) -> None:
    code = "console.log(process.argv.slice(2), require('fs').readFileSync(0, 'utf8'))"
    code += "; console.error('bad'); process.exit(3)"
    program, table = shell.write("a.js", code), shell.write("in.csv", "1,2")
    words = ["run", program, "-t", "9", "-m", "200", "--stdin", table, "-f", table, "--label", "a=b"]
    found = shell.good(*words, "--", "-x", "y", code=3)
    assert "[ '-x', 'y' ]" in found.stdout
    assert "1,2" in found.stdout
    assert re.search(r"bad\nretort: error \(exit code 3\), wall .* sandbox\n", found.stderr)
    document = shell.json(*words, code=3)
    assert (document["language"], document["limits"]["timeout_s"], document["limits"]["memory_mb"]) == (
        "javascript",
        9,
        200,
    )
    assert (document["labels"], [each["name"] for each in document["files"]]) == ({"a": "b"}, ["in.csv"])


def test_run_reads_a_program_from_a_pipe_and_passes_bytes_on(shell: Shell) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    found = shell.retort("run", "-", given=code)
    assert (found.exit_code, found.stdout_bytes) == (0, bytes(range(256)))


def test_output_comes_while_the_program_runs(shell: Shell) -> None:
    program = shell.write("slow.py", SLOW)
    with shell.process("run", program, "--label", "slow=1", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"line 0\n"
        assert process.stdout.readline() == b"line 1\n"
        running = shell.json("jobs", "--label", "slow=1")["jobs"][0]
        assert running["state"] == "running"
        assert "cancelled" in shell.good("cancel", running["id"]).stdout
        assert process.wait(60) == exits.INTERRUPTED


def test_output_that_comes_live_is_all_of_it(shell: Shell) -> None:
    code = "import time, sys\nfor n in range(3):\n"
    code += "    print('é', n); print('e', n, file=sys.stderr); time.sleep(0.6)"
    found = shell.good("run", shell.write("a.py", code))
    assert found.stdout == "é 0\né 1\né 2\n"
    assert re.match(r"e 0\ne 1\ne 2\nretort: ok, wall \d+\.\d\d s, CPU ", found.stderr), found.stderr


def test_detached_jobs_print_their_id(shell: Shell) -> None:
    job_id = shell.good("run", "-", "--detach", given="print(1)").stdout.strip()
    assert shell.client.wait(job_id).ok
    assert shell.json("run", shell.write("a.py", "1"), "-d")["state"] in ("queued", "running", "finished")


def test_ask_tells_each_attempt_and_shows_the_result(shell: Shell) -> None:
    table = shell.write("data.csv", "a\n1\n")
    found = shell.good("ask", "Plot sine to sine.png", "--file", table, "--budget", "0.10")
    assert found.stdout == "saved sine.png\n"
    lines = found.stderr.splitlines()
    assert lines[0].startswith("retort: attempt 1: error, ")
    assert lines[1].startswith("retort: attempt 2: ok, ")
    assert re.search(r"retort: ok, not checked, .* gpt-4\.1 \(scripted\), cost \$", lines[2])
    code = shell.good(
        "ask", "-", "--code", "-n", "1", "--expect", shell.write("e.txt", "9592 99991"), given="primes"
    )
    assert "sieve" in code.stdout
    assert "check passed" in code.stderr


def test_ask_with_tests_that_fail(shell: Shell) -> None:
    document = shell.json("ask", "primes", "--check", shell.write("t.py", "assert n == 7"), "-n", "1", code=123)
    assert (document["outcome"], document["check"]) == ("failed", {"tests": "assert n == 7"})


# --- jobs ------------------------------------------------------------------------------------------


def test_jobs_are_listed_and_narrowed(shell: Shell) -> None:
    label = uuid4().hex
    ids = [shell.client.run(f"print({n})", labels={"l": label}).id for n in range(3)]
    failed = shell.client.run("1/0", labels={"l": label}).id
    lines = shell.good("jobs", "--label", f"l={label}").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [failed, *reversed(ids)]
    assert lines[0].split("\t")[2:5] == ["finished", "error", "python"]
    found = shell.json("jobs", "--label", f"l={label}", "--verdict", "ok", "--limit", "2")
    assert [job["id"] for job in found["jobs"]] == [ids[2], ids[1]]
    assert shell.retort("jobs", "--state", "asleep").exit_code == exits.USAGE


def test_show_tells_of_a_job_and_of_an_attempt(shell: Shell) -> None:
    code = "import sys\nprint('out\\x1b[2J')\nopen('left.txt', 'w').write('x')\nsys.exit('why')"
    job = shell.client.run(code, labels={"a": "b"})
    shown = shell.good("show", job.id).stdout
    for line in (f"job       {job.id}", "labels    a=b", "artifact  left.txt, 1 bytes", "  import sys"):
        assert line in shown.splitlines()
    assert "  out\\x1b[2J" in shown
    assert "  why" in shown
    assert shell.json("show", job.id) == job.document
    assert shell.json("show", job.id, "--attempt", "1")["number"] == 1
    assert "attempt   1" in shell.good("show", job.id, "--attempt", "1").stdout
    assert shell.retort("show", str(uuid4())).exit_code == exits.USAGE


def test_logs_print_what_was_written(shell: Shell) -> None:
    job = shell.client.run(
        "import sys; print('out'); print('err', file=sys.stderr); open('a.csv', 'w').write('1')"
    )
    for words in (["logs", job.id], ["logs", job.id, "-f"], ["logs", job.id, "--attempt", "1"]):
        found = shell.good(*words)
        assert found.stdout == "out\n"
        assert found.stderr.startswith("err\n")
    assert "retort: left a.csv (text/csv, 1 bytes)\n" in shell.good("logs", job.id, "-f").stderr
    events = [json.loads(line) for line in shell.good("logs", job.id, "--json").stdout.splitlines()]
    assert [event["kind"] for event in events][-1] == "done"
    assert {"id", "kind", "data"} == set(events[0])


def test_logs_follow_a_job_that_runs(shell: Shell) -> None:
    with shell.client as client:
        job = client.submit(SLOW)
        with shell.process("logs", "--follow", job.id, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(3)] == [b"line 0\n", b"line 1\n", b"line 2\n"]
            unfinished = shell.good("logs", job.id)
            assert "-f follows it" in unfinished.stderr
            client.cancel(job)
            assert process.wait(60) == 0


def test_cancel_and_delete_do_what_they_can(shell: Shell) -> None:
    with shell.client as client:
        jobs = [client.submit("import time; time.sleep(60)") for _ in range(2)]
        ended = client.run("1")
        found = shell.json("cancel", ended.id, jobs[0].id, code=exits.USAGE)
        assert [(job["id"], job["state"]) for job in found["jobs"]] == [(jobs[0].id, "cancelled")]
        assert shell.good("delete", jobs[1].id, code=exits.USAGE).stdout == ""
        shell.good("cancel", jobs[1].id)
        gone = shell.good("delete", jobs[1].id, ended.id).stdout
        assert gone == f"{jobs[1].id} deleted\n{ended.id} deleted\n"
        assert shell.json("delete", jobs[0].id) == {"jobs": [{"id": jobs[0].id}]}


def test_rerun_shows_the_new_job(shell: Shell) -> None:
    job = shell.client.run("import time; time.sleep(1.1); print('slept')", limits={"timeout_s": 1})
    assert job.verdict == "timeout"
    assert shell.good("rerun", job.id, "-t", "20").stdout == "slept\n"
    document = shell.json("rerun", job.id, "-m", "100", "--detach")
    assert (document["rerun_of"], document["limits"]["memory_mb"]) == (job.id, 100)


def test_artifacts_are_listed_and_saved(shell: Shell) -> None:
    job = shell.client.run(
        "import os\nos.mkdir('d')\nopen('d/a.txt', 'w').write('a')\nopen('b.bin', 'wb').write(b'\\0\\1')"
    )
    lines = shell.good("artifacts", job.id).stdout.splitlines()
    assert sorted(line.split("\t")[:2] for line in lines) == [["b.bin", "2"], ["d/a.txt", "1"]]
    folder = shell.folder / "out"
    saved = shell.json("artifacts", job.id, "-o", str(folder))
    assert {each["path"] for each in saved["artifacts"]} == {str(folder / "d/a.txt"), str(folder / "b.bin")}
    assert (folder / "b.bin").read_bytes() == b"\0\1"
    shell.good("artifacts", job.id, "d/a.txt", "-o", str(shell.folder / "one"))
    assert [path.name for path in (shell.folder / "one").rglob("*") if path.is_file()] == ["a.txt"]
    assert "left no c" in shell.good("artifacts", job.id, "c", code=exits.USAGE).stderr
    in_the_way = shell.write("file", "")
    code = shell.retort("artifacts", job.id, "-o", f"{in_the_way}/below").exit_code
    assert code == exits.NO_OUTPUT


# --- the service -----------------------------------------------------------------------------------


def test_keys_are_made_listed_and_ended(shell: Shell) -> None:
    made = shell.good("keys", "create", "carol", "--scope", "read", "--expires", "1h")
    key = made.stdout.strip()
    assert key.startswith("rt_")
    assert "shown only now" in made.stderr
    only_reads = shell.retort("run", "-", given="1", RETORT_API_KEY=key)
    assert only_reads.exit_code == exits.NO_PERMISSION
    listed = shell.json("keys")["keys"]
    assert key not in json.dumps(listed)
    newest = listed[0]["id"]
    rotated = shell.json("keys", "rotate", newest, "--overlap", "1m")
    lines = [line.split("\t") for line in shell.good("keys").stdout.splitlines()]
    assert [line[:2] for line in lines][:2] == [[rotated["id"], "carol"], [newest, "carol"]]
    assert shell.json("keys", "revoke", newest) == {"id": newest, "state": "revoked"}
    assert shell.good("keys", "revoke", rotated["id"]).stdout == f"{rotated['id']} revoked\n"
    assert shell.retort("keys", RETORT_API_KEY="rt_none").exit_code == exits.NO_PERMISSION


@pytest.mark.parametrize(
    ("words", "pattern", "field"),
    [
        (["stats"], r"^workers\t1 of 1 ready$", "sandbox"),
        (["models"], r"^gpt-4\.1\t", "models"),
        (["images"], r"^python\S*\t3\.", "languages"),
    ],
)
def test_what_the_service_offers(shell: Shell, words: list[str], pattern: str, field: str) -> None:
    assert re.search(pattern, shell.good(*words).stdout, re.MULTILINE)
    assert field in shell.json(*words)


def test_stats_by_groups(shell: Shell) -> None:
    shell.client.run("1/0")
    lines = shell.good("stats", "--by", "language", "--by", "verdict").stdout.splitlines()
    assert any(line.startswith("python\terror\t") for line in lines)
    assert shell.retort("stats", "--by", "colour").exit_code == exits.USAGE


def test_savings_takes_prices_from_the_service(shell: Shell) -> None:
    assert "saved_usd" in shell.json("savings", "--baseline", "sonnet-4", "--mix", "haiku-4=100")


# --- on the service's own machine ------------------------------------------------------------------


def test_the_doctor_proves_what_the_engine_does(shell: Shell) -> None:
    """Its answer is all that it prints, and its exit code says whether something fails."""
    env = {"RETORT_STATE_DIR": str(shell.folder / "state")}
    command = shell.process(
        "doctor", "--json", "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    with command as process:
        stdout, stderr = process.communicate()
    found = json.loads(stdout)
    assert stderr == b""
    assert all(set(each) == {"name", "ok", "found", "todo"} for each in found)
    checks = {each["name"]: each for each in found}
    assert len(checks) == len(found)
    assert checks["container engine"]["found"].startswith("Docker ")
    assert checks["runtime runc"]["ok"] is checks["seccomp"]["ok"] is True
    assert checks[f"image {images.expected_tag('python')}"]["ok"] is True
    proven = {name: each for name, each in checks.items() if name.startswith("runc: ")}
    assert len(proven) > 8
    assert {name: each["found"] for name, each in proven.items() if each["ok"] is not True} == {}
    # Other images may not be built on this machine, and it may be short of room.
    failed = {name for name, each in checks.items() if each["ok"] is False}
    assert {name for name in failed if not name.startswith(("image ", "runsc", "free "))} == set()
    assert all(checks[name]["todo"] for name in failed)
    assert process.returncode == (1 if failed else 0)


def test_the_doctor_without_an_engine_says_what_to_do(shell: Shell) -> None:
    """Everything else is examined nevertheless."""
    env = {"DOCKER_HOST": "unix:///nonexistent/docker.sock", "RETORT_STATE_DIR": str(shell.folder / "state")}
    with shell.process("doctor", "--json", "--port", "0", stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        checks = {each["name"]: each for each in json.loads(process.stdout.read())}
        assert process.wait(60) == 1
    assert checks["Python"]["ok"] is checks["PostgreSQL"]["ok"] is checks["Valkey"]["ok"] is True
    assert checks["container engine"]["ok"] is False
    assert "retort engine ensure" in checks["container engine"]["todo"]
    assert "seccomp" not in checks


def test_images_are_built_by_name(shell: Shell) -> None:
    """What is there stays; an unknown name is told with those that are known."""
    for name, code, said in (("python", 0, "python"), ("cobol", 1, "cobol")):
        with shell.process(
            "images", "build", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            seen = process.stdout.read().decode()
            assert (process.wait(60), said in seen) == (code, True), seen


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(kind: str) -> None:
    def completed(words: str, last: str) -> str:
        env = {
            "_RETORT_COMPLETE": f"complete_{kind}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_WORD_TO_COMPLETE": last,
        }
        return CliRunner().invoke(app, [], env=env).stdout

    assert "images" in completed("retort im", "im")
    assert "jobs" not in completed("retort im", "im")
    assert "--budget" in completed("retort ask --bu", "--bu")


# --- configuration and terminals -------------------------------------------------------------------


def test_a_configuration_file_tells_where_the_service_is(shell: Shell) -> None:
    path = Path(shell.write("config.toml", f'url = "{shell.service.url}"\napi_key = "{shell.service.key}"\n'))
    path.chmod(0o600)
    env = {"RETORT_CONFIG": str(path), "RETORT_URL": "", "RETORT_API_KEY": ""}
    assert shell.retort("stats", **env).exit_code == 0
    path.chmod(0o644)
    assert shell.retort("stats", **env).exit_code == exits.CONFIGURATION


def test_at_a_terminal_there_are_colours_and_progress(shell: Shell) -> None:
    program = shell.write("a.py", "import time; time.sleep(1.5); print('done')")
    seen = at_terminal(shell, "run", program, "--label", "at=terminal")
    assert "running the program" in seen
    assert "done\r\n" in seen
    listed = at_terminal(shell, "jobs", "--label", "at=terminal")
    assert "\x1b[32mok" in listed
    assert "verdict" in listed


def test_a_reader_that_has_enough_ends_the_command_in_silence(shell: Shell) -> None:
    program = shell.write("a.py", "print('x' * 200000)")
    with shell.process("run", program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read().decode()
        eventually(lambda: process.poll() is not None, "it ends")
    assert "Traceback" not in said


# --- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_submitted_waited_for_and_read(shell: Shell) -> None:
    jobs = [{"code": f"print({n} ** 2)", "labels": {"n": str(n)}} for n in range(4)] + [{"code": "1/0"}]
    source = shell.write("jobs.ndjson", "".join(json.dumps(job) + "\n" for job in jobs))
    found = shell.good("batch", source, "--name", "squares", code=1)
    results = [json.loads(line) for line in found.stdout.splitlines()]
    assert [job["stdout"] for job in results] == ["0\n", "1\n", "4\n", "9\n", ""]
    assert [job["index"] for job in results] == list(range(5))
    assert found.stderr.startswith("retort: batch ")
    assert "4 ok" in found.stderr
    assert "1 error" in found.stderr
    saved = shell.folder / "results.ndjson"
    document = shell.json("batch", source, "-o", str(saved), code=1)
    assert (document["state"], document["verdicts"]) == ("ended", {"ok": 4, "error": 1})
    assert len(saved.read_text().splitlines()) == 5


def test_a_batch_can_be_left_and_come_back_to(shell: Shell) -> None:
    batch_id = shell.good("batch", "-", "--detach", given=b'{"code": "print(1)"}\n').stdout.strip()
    assert json.loads(shell.good("batch", batch_id).stdout)["stdout"] == "1\n"
    assert shell.retort("batch", "none.ndjson").exit_code == exits.NO_INPUT
    wrong = shell.good("batch", "-", given=b'{"code": 1}\n', code=exits.USAGE)
    assert "code" in wrong.stderr
