"""A worker that dies between two steps of a task: what was paid for is not paid again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import docker
import pytest

from domain.ids import new_id
from domain.states import State
from tests.conftest import ROOT, Services
from tests.harness import Broker, Jobs, Worker, end_all, eventually, instance_name
from tests.models import scripted_process
from tests.tasks import add_task, asked, calls_of, ended, gateway_environment, ring
from worker.asking import open_models
from worker.broker import Bell, celery_app
from worker.claimed import ClaimedJob
from worker.generating import Generating
from worker.model.rules import load_refine_rules
from worker.model.want import Generated, Want
from worker.store import Store
from worker.task_store import TaskStore


@pytest.fixture
def model(tmp_path: Path) -> Iterator[str]:
    """A scripted model that counts what it is asked."""
    scripts = ("--scripts", str(ROOT / "tests" / "tasks.toml"))
    with scripted_process(tmp_path / "model.log", *scripts) as url:
        yield url


class Dies(BaseException):
    """The worker is gone."""


class Step:
    """A model's step as a worker does it, with the real models, and counted; it dies where it is told to."""

    def __init__(self, jobs_table: Jobs, database_url: str, redis_url: str, closing: ExitStack) -> None:
        self.dies_before = 0
        self.dies_after = 0
        self.count = 0
        self._table = jobs_table
        self._store = Store(database_url, threads=2)
        closing.callback(self._store.close)
        tasks = TaskStore(self._store)
        bell = Bell(celery_app(redis_url), redis_url)
        closing.callback(bell.close)
        opened = open_models(redis_url, tasks, closing)
        assert opened is not None
        self._models = opened.models
        self._does = Generating(tasks=tasks, bell=bell, models=self, rules=load_refine_rules(), worker="test")

    def generate(self, want: Want) -> Generated:
        """Ask."""
        self.count += 1
        if self.count == self.dies_before:
            raise Dies
        generated = self._models.generate(want)
        if self.count == self.dies_after:
            raise Dies  # the answer is stored, nothing done with it
        return generated

    def claim(self, job_id: UUID) -> ClaimedJob:
        """Take a job, from a worker that is gone."""
        return claim(self._store, self._table, job_id)

    def do(self, job: ClaimedJob) -> None:
        """Do what it waits for."""
        assert job.task is not None
        self._does.do(job, job.task)


@pytest.fixture
def begin(
    jobs_table: Jobs, database_url: str, redis_url: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Step]]:
    """Makes the step of a worker that asks some models."""
    with ExitStack() as closing:

        def made(models: str = "gpt-4.1", *, dies_before: int = 0, dies_after: int = 0) -> Step:
            for name, value in gateway_environment(model, models).items():
                monkeypatch.setenv(name, value)
            step = Step(jobs_table, database_url, redis_url, closing)
            step.dies_before, step.dies_after = dies_before, dies_after
            return step

        yield made


def claim(store: Store, jobs_table: Jobs, job_id: UUID) -> ClaimedJob:
    """Take a job for a model's step, from a worker that is gone."""
    jobs_table.expire(job_id)
    job = store.claim(job_id, uuid4(), "test", State.GENERATING)
    assert job is not None
    return job


def test_a_program_is_handed_over_with_its_answer(jobs_table: Jobs, begin: Callable[..., Step]) -> None:
    step = begin(dies_after=1)
    job_id = add_task(jobs_table, "[scripted:right] greet")
    first = step.claim(job_id)
    with pytest.raises(Dies):
        step.do(first)
    row = jobs_table.get(job_id)
    assert (row.state, row.next_state, row.round, row.lease_token) == ("queued", "running", 1, None)
    assert "hello" in row.draft["code"]
    (call,) = calls_of(jobs_table, job_id)
    assert row.cost_usd == call.cost_usd == Decimal(row.draft["cost_usd"])
    assert row.draft["scripted"] is True


def test_a_stored_answer_is_not_asked_for_again(
    jobs_table: Jobs, model: str, begin: Callable[..., Step]
) -> None:
    """It was cut off, and has no program."""
    step = begin(dies_after=1)
    job_id = add_task(jobs_table, "[scripted:slow-to-shorten] print it")
    first = step.claim(job_id)
    with pytest.raises(Dies):
        step.do(first)
    assert jobs_table.get(job_id).state == "generating"
    second = step.claim(job_id)
    step.do(second)
    row = jobs_table.get(job_id)
    assert (row.state, row.next_state, row.round) == ("queued", "running", 1)
    calls = calls_of(jobs_table, job_id)
    assert ([call.finish for call in calls], asked(model)) == (["length", "stop"], 2)
    assert row.cost_usd == sum(call.cost_usd for call in calls) == Decimal(row.draft["cost_usd"])


def test_an_answer_that_cannot_be_read_is_stored_all_the_same(
    jobs_table: Jobs, monkeypatch: pytest.MonkeyPatch, begin: Callable[..., Step]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RecursionError

    step = begin()
    job_id = add_task(jobs_table, "[scripted:right] greet")
    job = step.claim(job_id)
    with monkeypatch.context() as broken:
        broken.setattr("worker.generating.extract", fails)
        with pytest.raises(RecursionError):
            step.do(job)
    (call,) = calls_of(jobs_table, job_id)
    assert "hello" in call.answer


def test_notes_on_a_long_task_are_not_asked_for_again(
    jobs_table: Jobs, model: str, monkeypatch: pytest.MonkeyPatch, begin: Callable[..., Step]
) -> None:
    small = "claude-sonnet-4-20250514"
    monkeypatch.setenv("RETORT_MODEL_WINDOW_S", "0.5")  # a minute takes no more than one chunk
    # Asked for the whole (too long), for the notes on the first chunk; not for those on the second.
    step = begin(small, dies_before=3)
    task = (
        f"[scripted:long] Print it.\n{'Nothing of this is needed. ' * 32_000}\nThat was all of [scripted:long]."
    )
    job_id = add_task(jobs_table, task, policy={"model": small, "fallbacks": ()})
    first = step.claim(job_id)
    with pytest.raises(Dies):
        step.do(first)
    assert [call.parameters["chunk"] for call in calls_of(jobs_table, job_id)] == [[1, 3]]
    second = step.claim(job_id)
    step.do(second)
    chunks = [call.parameters.get("chunk") for call in calls_of(jobs_table, job_id)]
    assert (chunks, asked(model)) == ([[1, 3], [2, 3], [3, 3], None], 4)
    assert jobs_table.get(job_id).draft["code"] == "print(42)\n"


def test_a_worker_is_killed_between_the_answer_and_the_run(
    services: Services,
    jobs_table: Jobs,
    broker: Broker,
    engine: docker.DockerClient,
    image: str,
    model: str,
    tmp_path: Path,
) -> None:
    """First while a second answer is under way, then with the program ready and nobody to run it."""
    started: list[Worker] = []

    def start(serves: str) -> Worker:
        worker = Worker(
            tmp_path / f"log{len(started)}",
            services.database_url,
            services.redis_url,
            instance=instance_name(),
            environment=gateway_environment(model),
            serves=serves,
        )
        started.append(worker)
        return worker

    try:
        job_id = add_task(jobs_table, "[scripted:slow-to-shorten] sum")
        ring(broker, job_id)
        first = start("model")
        eventually(lambda: len(calls_of(jobs_table, job_id)) == 1, "the answer that was cut off is stored")
        first.kill()
        jobs_table.expire(job_id)
        second = start("model")
        eventually(lambda: jobs_table.get(job_id).next_state == "running", "the program is there")
        second.kill()
        assert [(c.round, c.finish) for c in calls_of(jobs_table, job_id)] == [(1, "length"), (1, "stop")]
        paid = jobs_table.get(job_id).cost_usd
        start("sandbox")
        job = ended(jobs_table, job_id)
        assert (job.verdict, job.outcome, job.cost_usd) == ("ok", "ran", paid)
        # The first answer was asked for once; the second, under way when its worker was killed, perhaps again.
        assert asked(model) <= 3
        assert len(calls_of(jobs_table, job_id)) == 2
    finally:
        print(*(worker.log.read_text() for worker in started))
        end_all(engine, started)


def test_what_a_worker_that_lost_its_lease_was_answered_is_kept_for_the_next(
    jobs_table: Jobs, model: str, begin: Callable[..., Step]
) -> None:
    step = begin()
    job_id = add_task(jobs_table, "[scripted:right] greet")
    first = step.claim(job_id)
    second = step.claim(job_id)  # while the first still asks
    step.do(first)
    row = jobs_table.get(job_id)
    assert (row.state, row.lease_token, row.round) == ("generating", second.token, 0)
    step.do(second)
    row = jobs_table.get(job_id)
    assert (row.next_state, row.round) == ("running", 1)
    assert "stored before a worker was lost" in row.draft["choice"]["reason"]
    assert (step.count, asked(model), len(calls_of(jobs_table, job_id))) == (1, 1, 1)
    assert row.cost_usd == calls_of(jobs_table, job_id)[0].cost_usd == Decimal(row.draft["cost_usd"])


def test_a_call_that_is_recorded_twice_counts_once(jobs_table: Jobs, database_url: str) -> None:
    store = Store(database_url, threads=1)
    job_id = add_task(jobs_table, "sum")
    job = claim(store, jobs_table, job_id)
    call = {"id": new_id(), "round": 1, "gateway": "g", "model": "m", "prompt": {}, "parameters": {}}
    for _ in range(2):
        assert TaskStore(store).record_call(job, {**call, "answer": "a\0\ud800", "cost_usd": Decimal("0.1")})
    (recorded,) = calls_of(jobs_table, job_id)
    assert recorded.answer == "a\N{REPLACEMENT CHARACTER}?"
    assert jobs_table.get(job_id).cost_usd == Decimal("0.1")
    unknown = {**call, "id": new_id(), "answer": "b"}
    assert TaskStore(store).record_call(job, unknown)
    assert jobs_table.get(job_id).cost_complete is False
    store.close()
