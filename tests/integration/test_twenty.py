"""Twenty of twenty tasks end well at the second attempt, in every language."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import docker
import pytest

from domain.languages import load_languages
from domain.tasks import load_task_rules
from tests.conftest import ROOT, Services, empty
from tests.harness import Broker, Jobs, Worker, eventually
from tests.tasks import FINAL, add_task, calls_of, ring, task_worker
from tests.twenty import TASKS

SCRIPTS = ROOT / "tests" / "tasks.toml"

#: Tests of a function `sub`, in each language; the first program that is given subtracts the wrong way round.
SUBTRACTS = {
    "python": "assert sub(5, 3) == 2",
    "javascript": "if (sub(5, 3) !== 2) throw new Error(`${sub(5, 3)}`);",
    "bash": '[ "$(sub 5 3)" = 2 ]',
    "r": "stopifnot(sub(5, 3) == 2)",
    "rust": "use std::convert::identity;\nassert_eq!(identity(sub(5, 3)), 2);",
}

R_ADDS, RUST_ADDS = "stopifnot(add(2, 2) == 4)", "assert_eq!(add(2, 2), 4)"

#: Language, script, tests, then how it ends: verdict, outcome, and what is in its outputs.
CHECKED = [
    ("r", "add", R_ADDS, "ok", "passed", b'[1] "ran"\n'),
    ("r", "add", "stopifnot('\u00e9\U0001f600' == '\\u00e9\\U1f600', add(2, 2) == 5)", "check_failed", "failed",
     b"add(2, 2) == 5 is not TRUE"),
    ("r", "add", "stopifnot(", "check_failed", "failed", b"unexpected end of input"),
    ("r", "exits", R_ADDS, "check_failed", "failed", b""),
    ("r", "fails", R_ADDS, "error", "failed", b"no further"),
    ("rust", "add", RUST_ADDS, "ok", "passed", b"ran\n"),
    ("rust", "add", "assert_eq!(add(2, 2), 5)", "check_failed", "failed", b"left: 4"),
    ("rust", "add", "assert_eq!(add(2, 2), 4", "compile_error", "failed", b"unclosed delimiter"),
    ("rust", "exits", "", "check_failed", "failed", b""),
    ("rust", "fails", "", "error", "failed", b"no further"),
    ("rust", "panics", "", "error", "failed", b"no further"),
]  # fmt: skip


def scripts(folder: Path) -> Path:
    """The table as scripts."""
    lines: list[str] = []
    for language, tasks in TASKS.items():
        for number, task in enumerate(tasks):
            lines += ["[[scripts]]", f'name = "{language}-{number}"']
            for code, when in ((task.wrong, ""), (task.right, task.needs[0])):
                lines += ["[[scripts.turns]]", f"when = {json.dumps(when)}"]
                lines += ["[scripts.turns.code]", f"{language} = {json.dumps(code)}"]
    path = folder / "twenty.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def served(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """The worker."""
    empty(services)
    folder = tmp_path_factory.mktemp("twenty")
    with task_worker(services, engine, folder, scripts(folder), SCRIPTS, warm_languages=",".join(TASKS)) as (
        worker,
        _,
    ):
        yield worker


def test_every_language_has_its_twenty() -> None:
    assert set(TASKS) == set(load_languages())
    assert {
        language: len({task.wrong for task in tasks}) for language, tasks in TASKS.items()
    } == dict.fromkeys(TASKS, 20)


@pytest.mark.parametrize("language", TASKS)
def test_twenty_of_twenty(served: Worker, jobs_table: Jobs, broker: Broker, language: str) -> None:
    tasks = TASKS[language]
    ids = [
        add_task(
            jobs_table,
            f"[scripted:{language}-{number}] do what the script says",
            language=language,
            check_by=task.check,
            limits=task.limits,
        )
        for number, task in enumerate(tasks)
    ]
    ring(broker, *ids)
    eventually(lambda: all(jobs_table.get(job_id).state in FINAL for job_id in ids), "all tasks end", 300)
    wrong: dict[str, object] = {}
    for job_id, task in zip(ids, tasks, strict=True):
        job = jobs_table.get(job_id)
        verdicts = [attempt.verdict for attempt in jobs_table.attempts(job_id)]
        expected = ("ok", "passed" if task.check else "ran", [task.verdict, "ok"])
        if (job.verdict, job.outcome, verdicts) != expected:
            wrong[task.name] = (job.verdict, job.outcome, verdicts, job.reason)
            continue
        told = calls_of(jobs_table, job_id)[1].prompt["messages"][-1]["content"]
        if missing := [words for words in task.needs if words not in told]:
            wrong[task.name] = (missing, told)
    assert wrong == {}


def finished(jobs_table: Jobs, broker: Broker, ids: list[UUID]) -> None:
    """Ring for tasks, and wait for all of them."""
    ring(broker, *ids)
    eventually(lambda: all(jobs_table.get(job_id).state in FINAL for job_id in ids), "all tasks end", 120)


def test_what_fails_its_tests_is_repaired_in_every_language(
    served: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    assert set(SUBTRACTS) == set(TASKS) == set(load_task_rules().tested_languages)
    ids = [
        add_task(jobs_table, "[scripted:sub] subtract", language=language, check_by={"tests": tests})
        for language, tests in SUBTRACTS.items()
    ]
    finished(jobs_table, broker, ids)
    found = {}
    for job_id in ids:
        job, attempts = jobs_table.get(job_id), jobs_table.attempts(job_id)
        found[job.language] = (job.outcome, *(attempt.verdict for attempt in attempts))
        assert all(b":passed" not in attempt.stdout for attempt in attempts)
    assert found == dict.fromkeys(SUBTRACTS, ("passed", "check_failed", "ok"))


def test_tests_in_r_and_rust(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    ids = [
        add_task(
            jobs_table,
            f"[scripted:{script}] do it",
            language=language,
            check_by={"tests": tests},
            policy={"max_attempts": 1},
        )
        for language, script, tests, *_ in CHECKED
    ]
    finished(jobs_table, broker, ids)
    for job_id, (_, script, tests, verdict, outcome, words) in zip(ids, CHECKED, strict=True):
        job, (attempt,) = jobs_table.get(job_id), jobs_table.attempts(job_id)
        said = attempt.stdout + attempt.stderr
        assert (job.verdict, job.outcome) == (verdict, outcome), (script, tests, said)
        assert words in said, (script, tests, said)
        assert attempt.check_passed is (None if verdict in ("error", "compile_error") else outcome == "passed")
