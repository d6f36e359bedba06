"""The client against the running service; each test with the blocking and with the asynchronous one."""

import asyncio
import doctest
import hashlib
import importlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from retort import AsyncRetort, Retort
from retort.client import Config, Event, Job, StillRunning
from retort.client.errors import Conflict, InUse, Invalid, JobEnded, JobUnfinished, NotFound, Unauthorized
from tests.conftest import Services
from tests.cutting import cutting
from tests.served import Served, served

SLOW = "import time\nfor n in range(400):\n    print('line', n, flush=True)\n    time.sleep(0.05)"
NOISY = (
    "import sys\nfor n in range(3000):\n    print('é line', n)\n    print(n, file=sys.stderr)\n"
    "for n in range(9):\n    open(f'{n}.csv', 'w').write('x' * n)"
)


@pytest.fixture(scope="module")
def service(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Everything, started once."""
    with served(services, engine, tmp_path_factory.mktemp("client")) as found:
        yield found


class Both:
    """A client of either kind; `do` and `all` give its results."""

    def __init__(self, kind: str, config: Config) -> None:
        self.client: Any = Retort(config) if kind == "blocking" else AsyncRetort(config)
        self._loop = asyncio.new_event_loop()

    def do(self, result: Any) -> Any:
        """What a call gave."""
        return self._loop.run_until_complete(result) if isinstance(result, Coroutine) else result

    def all(self, results: Any, most: int | None = None) -> list[Any]:
        """What a stream gave, or the first of it."""

        async def gather(stream: AsyncIterator[Any]) -> list[Any]:
            found: list[Any] = []
            async for each in stream:
                found.append(each)
                if len(found) == most:
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            return found

        if isinstance(results, AsyncIterator):
            return self._loop.run_until_complete(gather(results))
        return list(itertools.islice(results, most))

    def close(self) -> None:
        """Close its connections."""
        if isinstance(self.client, Retort):
            self.client.close()
        else:
            self.do(self.client.aclose())
        self._loop.close()


@pytest.fixture(params=["blocking", "asynchronous"])
def new(request: pytest.FixtureRequest, service: Served) -> Iterator[Callable[..., Both]]:
    """Makes clients of a kind."""
    made: list[Both] = []

    def make(**settings: Any) -> Both:
        config = Config(**{"url": service.url, "api_key": service.key, **settings})
        made.append(Both(request.param, config))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def both(new: Callable[..., Both]) -> Both:
    """A client."""
    return new()


def written(events: list[Event], stream: str) -> bytes:
    return b"".join(event.output for event in events if event.kind == stream)


def test_code_runs_with_everything_that_a_job_may_have(both: Both, tmp_path: Path) -> None:
    program = tmp_path / "main.py"
    program.write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ['NAME'], sys.stdin.read(), open('d/in.csv').read())"
    )
    job = both.do(
        both.client.run(
            program,
            args=["a", "b"],
            env={"NAME": "value"},
            stdin="given",
            files={"d/in.csv": b"1,2"},
            limits={"timeout_s": 7},
            labels={"for": "test"},
        )
    )
    assert isinstance(job, Job)
    assert (job.ok, job.stdout) == (True, "['a', 'b'] value given 1,2\n")
    assert (job.limits.timeout_s, job.labels) == (7, {"for": "test"})
    assert job.usage.sandbox_start in ("warm", "cold")
    assert job.created_at is not None
    assert job.created_at.tzinfo is not None


@pytest.mark.parametrize("new", ["asynchronous"], indirect=True)
def test_a_task_is_asked_and_judged(both: Both) -> None:
    job = both.do(both.client.ask("Plot sine to sine.png", budget_usd="0.10"))
    assert [attempt.verdict for attempt in job.attempts] == ["error", "ok"]
    assert (job.outcome, job.scripted) == ("ran", True)
    first = both.do(both.client.attempt(job, 1))
    assert "NameError" in first.stderr
    assert first.calls[0]["model"] == "gpt-4.1"
    judged = both.do(both.client.ask("Count the primes", expect="something else", max_attempts=1))
    assert (judged.verdict, judged.ok) == ("check_failed", False)


def test_who_waits_too_long_gets_the_job_as_it_is_and_can_end_it(both: Both) -> None:
    with pytest.raises(StillRunning) as still:
        both.do(both.client.run("import time; time.sleep(60)", timeout_s=0.3))
    job = still.value.job
    assert not job.ended
    with pytest.raises(JobUnfinished):
        both.do(both.client.delete(job))
    assert both.do(both.client.cancel(job)).state == "cancelled"
    assert both.do(both.client.wait(job.id)).state == "cancelled"
    ended = both.do(both.client.run("1"))
    with pytest.raises(JobEnded):
        both.do(both.client.cancel(ended))
    both.do(both.client.delete(job))
    with pytest.raises(NotFound):
        both.do(both.client.get(job))


def test_a_job_runs_again_with_what_is_changed(both: Both) -> None:
    job = both.do(both.client.run("import sys; print(sys.argv[1:])", args=["old"]))
    again = both.do(both.client.wait(both.do(both.client.rerun(job, args=["new"], labels={"a": "b"}))))
    assert (again.stdout, again.rerun_of, again.labels) == ("['new']\n", job.id, {"a": "b"})


def test_a_list_reads_as_many_pages_as_are_asked_for(both: Both) -> None:
    label = f"list{uuid4().hex}"
    jobs = [both.do(both.client.submit("1", labels={"t": label})) for _ in range(7)]
    found = both.all(both.client.list(label=f"t={label}", page_size=2))
    assert [job.id for job in found] == [job.id for job in reversed(jobs)]
    assert len(both.all(both.client.list(label=f"t={label}", page_size=2), most=3)) == 3
    since = found[2].created_at
    assert [job.id for job in both.all(both.client.list(label=f"t={label}", since=since))] == [
        job.id for job in found[:3]
    ]


def test_files_go_up_and_artifacts_come_down(both: Both, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3 << 20))
    code = "open('d.bin', 'wb').write(open('large.bin', 'rb').read()[::-1])\nopen('note.txt', 'w').write('n')"
    stored = both.do(both.client.upload(large))
    assert stored.sha256 == hashlib.sha256(large.read_bytes()).hexdigest()
    assert both.do(both.client.file(stored)).size == 3 << 20
    for files in ([large], {"large.bin": stored}):
        job = both.do(both.client.run(code, files=files))
        names = [each.name for each in both.do(both.client.artifacts(job))]
        assert names == ["d.bin", "note.txt"]
    path = both.do(both.client.download(job, "d.bin", tmp_path / "down.bin"))
    assert path.read_bytes() == large.read_bytes()[::-1]
    assert both.do(both.client.artifact(job, "note.txt")) == b"n"
    folder = tmp_path / "all"
    saved = both.do(both.client.download_all(job, folder))
    assert sorted(saved) == sorted(folder.iterdir()) == [folder / "d.bin", folder / "note.txt"]
    with pytest.raises(NotFound):
        both.do(both.client.download(job, "none", tmp_path / "none"))
    assert not list(tmp_path.glob("*none*"))
    both.do(both.client.delete_file(stored))
    with pytest.raises(NotFound):
        both.do(both.client.file(stored))


def test_a_file_that_is_needed_stays(both: Both) -> None:
    stored = both.do(both.client.upload(b"x", name="x"))
    job = both.do(both.client.submit("import time; time.sleep(60)", files={"x": stored}))
    with pytest.raises(InUse):
        both.do(both.client.delete_file(stored))
    both.do(both.client.cancel(job))


def test_events_tell_everything_from_the_beginning_and_from_any_place(both: Both) -> None:
    job = both.do(both.client.run(NOISY))
    events = both.all(both.client.events(job))
    assert [event.kind for event in events if event.kind not in ("stdout", "stderr")] == [
        "state",
        "state",
        "attempt",
        *["artifact"] * 9,
        "state",
        "done",
    ]
    assert [event.artifact for event in events if event.artifact] == list(
        both.do(both.client.attempt(job, 1)).artifacts
    )
    assert written(events, "stdout") == job.output()
    assert written(events, "stderr") == job.output("stderr")
    place = len(events) // 2
    rest = both.all(both.client.events(job, after=events[place].id))
    assert [event.id for event in rest] == [event.id for event in events[place + 1 :]]
    assert both.all(both.client.events(job, after=events[-1].id)) == []


def test_events_go_on_behind_a_cut(new: Callable[..., Both], service: Served) -> None:
    with cutting(service.url) as proxy:
        both, direct = new(url=proxy.url), new()
        job = direct.do(direct.client.run(NOISY))
        proxy.cuts = [600, 3000, 20000]
        events = both.all(both.client.events(job))
        assert proxy.connections == 4
        # And cut within the artifacts alone.
        (ended,) = (event for event in events if event.kind == "attempt")
        proxy.cuts, before = [1000, 1000], proxy.connections
        rest = both.all(both.client.events(job, after=ended.id))
        assert proxy.connections == before + 3
        assert rest == events[events.index(ended) + 1 :]
    assert len({event.id for event in events}) == len(events)
    assert [event.artifact.name for event in events if event.artifact] == [f"{n}.csv" for n in range(9)]
    assert events[-1].kind == "done"
    assert written(events, "stdout") == job.output()
    assert written(events, "stderr") == job.output("stderr")


def test_live_output_comes_while_the_program_runs(both: Both) -> None:
    job = both.do(both.client.submit(SLOW))
    for event in both.all(both.client.events(job), most=5):
        if event.kind == "stdout":
            assert event.output.startswith(b"line 0")
            break
    else:
        raise AssertionError("no output")
    assert not both.do(both.client.get(job)).ended
    both.do(both.client.cancel(job))


def test_a_lost_answer_makes_no_second_job(new: Callable[..., Both], service: Served) -> None:
    label = f"once{uuid4().hex}"
    with cutting(service.url) as proxy:
        both, direct = new(url=proxy.url), new()
        proxy.cuts = [0, 100]
        job = both.do(both.client.run("print(1)", labels={"t": label}))
        assert proxy.connections == 3
    assert job.ok
    assert [each.id for each in direct.all(direct.client.list(label=f"t={label}"))] == [job.id]


def test_a_key_of_the_callers_own_gives_the_same_job_again(both: Both) -> None:
    key = f"mine{uuid4().hex}"
    jobs = [both.do(both.client.submit("print(1)", idempotency_key=key)) for _ in range(2)]
    assert jobs[0].id == jobs[1].id


def test_a_refusal_says_which_field_and_what_is_allowed(both: Both) -> None:
    with pytest.raises(Invalid, match=r"limits\.timeout_s") as refused:
        both.do(both.client.run("1", limits={"timeout_s": 10**6}))
    assert refused.value.errors[0]["field"] == "limits.timeout_s"
    assert refused.value.request_id


def test_a_wrong_key_is_refused(new: Callable[..., Both]) -> None:
    both = new(api_key="rt_wrong")
    with pytest.raises(Unauthorized):
        both.do(both.client.models())


def test_no_more_requests_than_allowed_at_the_same_time(service: Served) -> None:
    async def many() -> list[Job]:
        config = Config(service.url, service.key, concurrent_requests=2)
        async with AsyncRetort(config) as client:
            return await asyncio.gather(*(client.run(f"print({n})") for n in range(8)))

    with cutting(service.url) as proxy:
        service = Served(proxy.url, service.key, service.store, service.env)
        jobs = asyncio.run(many())
        assert proxy.connections <= 2
    assert [job.stdout for job in jobs] == [f"{n}\n" for n in range(8)]


def test_what_the_service_offers(both: Both) -> None:
    assert any(model.name == "gpt-4.1" and model.available for model in both.do(both.client.models()).models)
    python = next(each for each in both.do(both.client.languages()).languages if each.name == "python")
    assert python.versions
    assert both.do(both.client.profiles()).profiles[0].limits["timeout_s"]["most"] >= 60
    assert both.do(both.client.stats()).sandbox["workers"] == 1


def test_keys_are_made_turned_and_ended(both: Both, new: Callable[..., Both]) -> None:
    name = f"caller{uuid4().hex}"
    caller = both.do(both.client.create_caller(name))
    with pytest.raises(Conflict):
        both.do(both.client.create_caller(name))
    assert caller.id in [each.id for each in both.all(both.client.callers())]
    key = both.do(both.client.create_key(caller, scopes=["read"], expires_in_s=60))
    assert key.key not in repr(key)
    reader = new(api_key=key.key)
    assert reader.all(reader.client.list()) == []
    turned = both.do(both.client.rotate_key(key, overlap_s=60))
    assert {each.id for each in both.all(both.client.keys(caller=caller))} == {key.id, turned.id}
    both.do(both.client.revoke_key(turned))
    states = {each.id: each.state for each in both.all(both.client.keys(caller=caller))}
    assert states == {key.id: "valid", turned.id: "revoked"}


def with_examples() -> list[str]:
    """Modules of the client whose examples need a service."""
    folder = Path(__file__).parents[2] / "retort" / "client"
    paths = [path for path in sorted(folder.glob("*.py")) if "Retort() as client" in path.read_text()]
    return [f"retort.client.{path.stem}" for path in paths]


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_are_true(service: Served, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable, value in service.env.items():
        monkeypatch.setenv(variable, value)
    module = importlib.import_module(name)
    names = {"Retort": Retort, "AsyncRetort": AsyncRetort}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


def test_there_are_examples() -> None:
    assert {"retort.client.clients", "retort.client.job_calls", "retort.client.file_calls"} <= set(
        with_examples()
    )
