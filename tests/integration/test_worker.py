"""A real worker process on the real engine: one, serving every test of this module."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import docker
import docker.errors
import pytest
from sqlalchemy import insert, text

from domain.bell import (
    ADVANCE,
    BATCH_SUFFIX,
    MAX_CLAIMS,
    OUTPUT_CHANNEL,
    OUTPUT_KEPT_S,
    SANDBOX_QUEUE,
    Output,
    output_key,
)
from domain.ids import new_id
from domain.states import State
from domain.tables.job import batches
from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker, attempt, containers, eventually, instance_name, ready
from tests.integration.running import LONG, busy_cell, ended, freeze, run
from worker.claimed import ClaimedJob
from worker.store import Store


@pytest.fixture(scope="module")
def served(
    services: Services,
    engine: docker.DockerClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    """The worker."""
    log = tmp_path_factory.mktemp("worker") / "log"
    empty(services)
    worker = Worker(log, services.database_url, services.redis_url, instance=instance_name())
    table = Jobs(services.database_url)
    try:
        ready(table, worker)
        yield worker
        assert worker.stop() == 0
        assert containers(engine, worker.instance) == []
    finally:
        table.close()
        print(log.read_text())
        worker.end(engine)


def test_one_ring_of_a_batch_leads_to_any_of_its_jobs(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    """Workers are not rung for every job of a batch: a message that names one job may do another."""
    with jobs_table.engine.connect() as connection:
        batch = {"id": new_id(), "caller_id": jobs_table.caller(), "total": 3}
        connection.execute(insert(batches), batch)
    ids = [
        jobs_table.add(f"print({n})", priority="batch", batch_id=batch["id"], batch_index=n) for n in range(3)
    ]
    for _ in ids:
        broker.celery.send_task(ADVANCE, args=[str(ids[0])], queue=f"{SANDBOX_QUEUE}{BATCH_SUFFIX}")
    for n, job_id in enumerate(ids):
        ended(jobs_table, job_id)
        assert [each.stdout for each in jobs_table.attempts(job_id)] == [f"{n}\n".encode()]


def test_what_a_program_did_is_recorded(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    job_id = run(
        jobs_table,
        broker,
        "import os, sys\n"
        "print(sys.stdin.read(), sys.argv[1:], os.environ['COLOUR'])\n"
        "sys.stderr.buffer.write(b'\\xff\\x00')\n"
        "sys.exit(3)\n",
        stdin=b"hello",
        args=["a", "b c"],
        env={"COLOUR": "red"},
    )
    job = jobs_table.get(job_id)
    assert (job.state, job.verdict, job.reason, job.claims) == ("finished", "error", None, 1)
    assert (job.lease_token, job.lease_until, job.leased_by) == (None, None, None)
    assert job.created_at <= job.started_at <= job.finished_at
    (recorded,) = jobs_table.attempts(job_id)
    assert (recorded.number, recorded.verdict, recorded.failure) == (1, "error", None)
    assert (recorded.exit_code, recorded.signal) == (3, None)
    assert recorded.stdout == b"hello ['a', 'b c'] red\n"
    assert recorded.stderr == b"\xff\x00"
    assert (recorded.stdout_bytes, recorded.stderr_bytes) == (23, 2)
    assert 0 < recorded.wall_s < 60
    assert 0 < recorded.cpu_s < 60
    assert recorded.peak_memory_bytes > 0
    assert recorded.oom_kills == 0
    assert recorded.sandbox_start in {"warm", "cold"}
    assert recorded.sandbox_start_s >= 0
    assert recorded.sandbox_reused is False
    assert recorded.image.startswith("retort/python:")
    assert recorded.image_digest.startswith("sha256:")
    assert (recorded.runtime, recorded.worker) == ("runc", served.instance)


@pytest.mark.parametrize(
    ("code", "limits", "expected"),
    [
        ("print('fine')", {}, ("ok", 0, None, b"fine\n")),
        ("import os; os._exit(137)", {}, ("error", 137, None, b"")),
        ("syntax error here", {}, ("error", 1, None, b"")),
        ("import os; os.kill(os.getpid(), 15)", {}, ("signalled", None, 15, b"")),
        (
            "print('before', flush=True)\nwhile True: pass",
            {"timeout_s": 1},
            ("timeout", None, None, b"before\n"),
        ),
        ("print('x' * 5000)", {"output_bytes": 1024}, ("output_limit", ..., ..., b"x" * 1023 + b"\n")),
        ("b = bytearray(300 << 20)", {"memory_mb": 64}, ("out_of_memory", ..., ..., b"")),
        ("print('\\0')", {}, ("ok", 0, None, b"\0\n")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_verdicts(
    served: Worker,
    jobs_table: Jobs,
    broker: Broker,
    code: str,
    limits: dict[str, int],
    expected: tuple[Any, ...],
) -> None:
    (recorded,) = jobs_table.attempts(run(jobs_table, broker, code, limits=limits))
    found = (recorded.verdict, recorded.exit_code, recorded.signal, recorded.stdout)
    assert tuple(f if e is not ... else ... for f, e in zip(found, expected, strict=True)) == expected


def test_each_change_of_state_is_published(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    heard = broker.listen()
    job_id = run(jobs_table, broker, "print(1)")
    eventually(lambda: len(heard(job_id)) == 2, "both states are heard")
    assert heard(job_id) == ["running", "finished"]


def test_a_job_that_is_rung_for_often_runs_once(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    ids = [jobs_table.add("import time; time.sleep(0.3); print('once')") for _ in range(3)]
    broker.ring(*ids * 10)
    for job_id in ids:
        ended(jobs_table, job_id)
    eventually(lambda: broker.waiting() == 0, "every message is taken")
    time.sleep(0.3)  # for a run that must not be there
    for job_id in ids:
        assert jobs_table.get(job_id).claims == 1
        assert [(a.number, a.stdout) for a in jobs_table.attempts(job_id)] == [(1, b"once\n")]


def test_a_job_that_nobody_rang_for_is_found(served: Worker, jobs_table: Jobs) -> None:
    job_id = jobs_table.add("print('found')")
    ended(jobs_table, job_id)
    assert jobs_table.outputs()[job_id] == [("ok", b"found\n")]


def test_a_wiped_broker_loses_no_job(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    ids = [jobs_table.add(f"print({n})", reuse="caller") for n in range(30)]
    broker.ring(*ids)
    broker.redis.flushall()
    eventually(lambda: jobs_table.unfinished() == 0, "all jobs end")
    assert jobs_table.outputs() == {job_id: [("ok", b"%d\n" % n)] for n, job_id in enumerate(ids)}


def test_nonsense_in_the_queue_stops_nobody(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    finished = run(jobs_table, broker, "print(1)")
    broker.ring(finished, uuid4())  # over, and unknown
    for name, args in (
        ("retort.advance", ["not-an-id"]),
        ("retort.advance", []),
        ("retort.advance", [str(new_id()), "more"]),
        ("retort.advance", [["list"]]),
        ("retort.from_another_version", [str(new_id())]),
    ):
        broker.celery.send_task(name, args=args, queue=SANDBOX_QUEUE)
    assert jobs_table.get(run(jobs_table, broker, "print(2)")).verdict == "ok"
    assert len(jobs_table.attempts(finished)) == 1
    assert served.process.poll() is None


def test_a_job_of_a_lost_worker_runs_again(served: Worker, jobs_table: Jobs) -> None:
    job_id = jobs_table.add(
        "print('again')",
        state="running",
        claims=1,
        lease_token=uuid4(),
        leased_by="dead",
        lease_until=text("now() - interval '1 second'"),
        rung_at=text("now() - interval '1 minute'"),
    )
    ended(jobs_table, job_id)
    recorded = [(a.number, a.failure, a.verdict, a.worker, a.stdout) for a in jobs_table.attempts(job_id)]
    assert recorded == [
        (1, "worker_lost", None, "dead", b""),
        (2, None, "ok", served.instance, b"again\n"),
    ]


def test_a_job_that_takes_its_workers_along_is_given_up(
    served: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    heard = broker.listen()
    job_id = jobs_table.add(
        "print('poison')",
        state="running",
        claims=MAX_CLAIMS,
        lease_token=uuid4(),
        leased_by="dead",
        lease_until=text("now() - interval '1 second'"),
    )
    ended(jobs_table, job_id)
    assert jobs_table.get(job_id).state == "broken"
    eventually(lambda: heard(job_id) == ["broken"], "clients are told")
    assert [a.failure for a in jobs_table.attempts(job_id)] == ["worker_lost"]


def test_a_worker_that_lost_its_lease_stops_and_writes_nothing(
    served: Worker, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient, database_url: str
) -> None:
    job_id = jobs_table.add(LONG.format(mark=1))
    broker.ring(job_id)
    cell = busy_cell(engine, served, "60.1")
    other = Store(database_url, threads=1)
    with jobs_table.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        connection.execute(
            text("UPDATE jobs SET lease_token = :token, leased_by = 'other', claims = 2 WHERE id = :id"),
            {"token": (token := uuid4()), "id": job_id},
        )
    eventually(lambda: cell not in containers(engine, served.instance), "the container is gone")
    row = jobs_table.get(job_id)
    assert (row.state, row.lease_token, row.leased_by) == ("running", token, "other")
    assert jobs_table.attempts(job_id) == []
    job = taken_over(jobs_table, job_id, other)
    assert other.finish(job, verdict="ok", reason=None, attempt=attempt())
    other.close()


def taken_over(jobs_table: Jobs, job_id: UUID, store: Store) -> ClaimedJob:
    """Take the job over once more, as a worker that came later; the one that runs here may be faster."""
    jobs: list[ClaimedJob] = []

    def take() -> bool:
        jobs_table.set(job_id, claims=1)
        jobs_table.expire(job_id)
        jobs.extend(filter(None, [store.claim(job_id, uuid4(), "later", State.RUNNING)]))
        return bool(jobs)

    eventually(take, "the job is taken over")
    return jobs[0]


def test_a_frozen_container_ends_at_the_time_limit(
    served: Worker, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient
) -> None:
    job_id = jobs_table.add(LONG.format(mark=2), limits={"timeout_s": 4})
    broker.ring(job_id)
    freeze(engine, busy_cell(engine, served, "60.2"))
    ended(jobs_table, job_id)
    assert jobs_table.get(job_id).verdict == "timeout"
    assert len(jobs_table.attempts(job_id)) == 1


def test_a_container_that_vanishes_is_our_failure_and_tried_again(
    served: Worker, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient
) -> None:
    job_id = jobs_table.add(LONG.format(mark=3))
    broker.ring(job_id)
    cell = busy_cell(engine, served, "60.3")
    jobs_table.set(job_id, code="print('second time')")
    engine.api.remove_container(cell, force=True)
    ended(jobs_table, job_id)
    first, second = jobs_table.attempts(job_id)
    assert first.failure.startswith("sandbox_crash")
    assert first.verdict is None
    assert (second.verdict, second.stdout) == ("ok", b"second time\n")
    assert jobs_table.get(job_id).verdict == "ok"


def test_a_job_that_loses_its_container_each_time_ends(
    served: Worker, jobs_table: Jobs, broker: Broker, engine: docker.DockerClient
) -> None:
    job_id = jobs_table.add(LONG.format(mark=4))
    broker.ring(job_id)
    for _ in range(2):
        cell = busy_cell(engine, served, "60.4")
        engine.api.remove_container(cell, force=True)
    ended(jobs_table, job_id)
    row = jobs_table.get(job_id)
    assert (row.state, row.verdict) == ("finished", "sandbox_crash")
    assert "2 times" in row.reason
    assert [a.verdict for a in jobs_table.attempts(job_id)] == [None, "sandbox_crash"]


def test_a_job_in_a_profile_that_nobody_used_yet(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    job_id = run(
        jobs_table, broker, "print('big')", profile="extended", limits={"memory_mb": 1024, "cpus": 2.0}
    )
    (recorded,) = jobs_table.attempts(job_id)
    assert (recorded.verdict, recorded.sandbox_start) == ("ok", "cold")


def test_why_a_verdict_is_as_it_is(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    busy = run(jobs_table, broker, "while True: pass", limits={"cpu_s": 1, "timeout_s": 60})
    assert (jobs_table.get(busy).verdict, jobs_table.get(busy).reason) == ("timeout", "cpu")
    flood = run(jobs_table, broker, "while True: print('x' * 99)", limits={"output_bytes": 1024})
    (recorded,) = jobs_table.attempts(flood)
    assert (len(recorded.stdout), recorded.stdout_head, recorded.stderr_head) == (1024, 512, None)
    assert recorded.stdout_bytes > 1024


def test_a_long_job_is_shown_while_it_runs(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    bus = broker.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    bus.subscribe(OUTPUT_CHANNEL)
    job_id = jobs_table.add(
        "import sys, time\n"
        "print('early')\n"
        "for _ in range(80):\n"
        "    time.sleep(0.05); print('more', file=sys.stderr)",
        limits={"timeout_s": 30},
    )
    broker.ring(job_id)

    def shown() -> list[Output]:
        entries: Any = broker.redis.xrange(output_key(job_id))
        return [Output.parse(fields) for _, fields in entries]

    eventually(lambda: len([part for part in shown() if part.stream == "stderr"]) > 2, "output is shown")
    assert jobs_table.get(job_id).state == "running"
    parts = shown()
    assert parts[0] == Output(1, "stdout", 0, b"early\n")
    written = b"".join(part.data for part in parts if part.stream == "stderr")
    assert written == b"more\n" * (len(written) // 5)
    eventually(lambda: (bus.get_message() or {}).get("data") == str(job_id).encode(), "watchers are told")
    assert 0 < int(broker.redis.ttl(output_key(job_id))) <= OUTPUT_KEPT_S
    ended(jobs_table, job_id)
    (recorded,) = jobs_table.attempts(job_id)  # what was shown is the beginning of what is stored
    assert recorded.stderr.startswith(written)


def test_a_short_job_publishes_no_output(served: Worker, jobs_table: Jobs, broker: Broker) -> None:
    job_id = run(jobs_table, broker, "print('quick')")
    assert jobs_table.outputs()[job_id] == [("ok", b"quick\n")]
    assert broker.redis.exists(output_key(job_id)) == 0


def test_a_job_for_another_tier_is_left_to_another_worker(
    served: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    job_id = jobs_table.add("print(1)", runtime="runsc")
    broker.ring(job_id)  # as if the message had come to the wrong queue
    ended(jobs_table, other := jobs_table.add("print(2)"))
    eventually(lambda: broker.waiting() == 0, "every message is taken")
    row = jobs_table.get(job_id)
    assert (row.state, row.claims, jobs_table.get(other).verdict) == ("queued", 0, "ok")
    jobs_table.set(job_id, state="cancelled", finished_at=text("now()"))


def test_a_caller_that_was_bound_meanwhile_is_not_served_elsewhere(
    served: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    with jobs_table.engine.connect() as connection:
        connection.execute(
            text("UPDATE callers SET runtime = 'runsc' WHERE id = :id"), {"id": jobs_table.caller()}
        )
    try:
        job_id = run(jobs_table, broker, "print(1)", runtime="runc")
    finally:
        with jobs_table.engine.connect() as connection:
            connection.execute(text("UPDATE callers SET runtime = NULL"))
    job = jobs_table.get(job_id)
    assert job.state == "broken"
    assert job.reason == "its caller is bound to runsc, and it was to run on runc"


def test_the_worker_says_how_it_is(served: Worker, jobs_table: Jobs) -> None:
    eventually(lambda: jobs_table.worker(served.instance) is not None, "it reports")
    row = jobs_table.worker(served.instance)
    assert row is not None
    assert (row.ready, row.why_not) == (True, None)
    assert row.facts["roles"] == ["sandbox"]
    assert (row.facts["runtimes"], row.facts["refusals"]) == (["runc"], {})
    assert {"warm", "cold", "idle", "busy", "lost"} <= set(row.facts["pool"])


def test_a_job_that_this_version_does_not_know_ends_with_the_reason(
    served: Worker, jobs_table: Jobs, broker: Broker
) -> None:
    job_id = run(jobs_table, broker, "print(1)", language="cobol")
    job = jobs_table.get(job_id)
    assert (job.state, job.verdict, job.claims) == ("broken", None, 1)
    assert "cobol" in job.reason
    (recorded,) = jobs_table.attempts(job_id)
    assert "cobol" in recorded.failure
