"""A place in each worker that batch work does not get: of the consumer by itself, and of a whole worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import kombu
import pytest

from domain.bell import ADVANCE, BATCH_SUFFIX, SANDBOX_QUEUE, celery_broker_url
from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker, eventually, instance_name, ready
from tests.integration.running import ended, run
from worker import places

BATCH_QUEUE = SANDBOX_QUEUE + BATCH_SUFFIX


class Reader:
    """Consumes both queues, with three threads that there are not, of which batch work may have two."""

    def __init__(self, redis_url: str, *, read_s: int = 300, **more: Any) -> None:
        options = {"ack_emulation": False, "batch_most": 2, "priority_steps": [0], **more}
        of: Any = kombu  # it has types, but not for all of it
        self._connection: Any = places.Connection(celery_broker_url(redis_url), transport_options=options)
        # Unless told otherwise, what a read does not ask for it misses for longer than a test takes.
        self._connection.transport.brpop_timeout = read_s
        self.channel = self._connection.channel()
        self.taken: list[str] = []
        self._messages: dict[str, Any] = {}
        queues = [of.Queue(name, routing_key=name) for name in (SANDBOX_QUEUE, BATCH_QUEUE)]
        consumer = of.Consumer(self.channel, queues, accept=["json"], callbacks=[self._take])
        consumer.qos(prefetch_count=3)
        consumer.consume()

    def _take(self, body: str, message: Any) -> None:
        self.taken.append(body)
        self._messages[body] = message

    def put(self, *bodies: str) -> None:
        """Messages, whose first letter tells their queue."""
        with self._connection.clone() as other, other.Producer() as producer:
            for body in bodies:
                queue = BATCH_QUEUE if body.startswith("b") else SANDBOX_QUEUE
                producer.publish(body, exchange="", routing_key=queue, serializer="json")

    def read(self, count: int) -> list[str]:
        """So many messages, however long they take; and what comes soon after them, which must be nothing."""
        while True:
            try:
                self._connection.drain_events(timeout=60 if len(self.taken) < count else 0.3)
            except TimeoutError:
                taken, self.taken = self.taken, []
                return taken

    def done(self, body: str, end: str = "ack") -> None:
        """Acknowledge a message, or reject it."""
        getattr(self._messages.pop(body), end)()

    def close(self) -> None:
        """Hang up, after a read that found something: one that waits would do so to its end."""
        for body in list(self._messages):
            self.done(body)
        self.put("last")
        while not self.taken:
            self._connection.drain_events(timeout=60)
        self.done("last")
        self._connection.release()


@pytest.fixture
def reader(broker: Broker, redis_url: str) -> Iterator[Reader]:
    """A consumer of an empty broker."""
    opened = Reader(redis_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("end", ["ack", "reject"])
def test_batch_work_is_read_while_it_has_a_place(reader: Reader, end: str) -> None:
    reader.put("b1", "b2", "b3", "b4")
    assert reader.read(2) == ["b1", "b2"]
    reader.put("one")
    assert reader.read(1) == ["one"]
    reader.done("one")
    assert reader.read(0) == []  # its place is not for batch work
    reader.done("b1", end)
    assert reader.read(1) == ["b3"]
    reader.done("b2", end)
    reader.done("b3", end)
    assert reader.read(1) == ["b4"]


def test_whoever_waits_is_read_before_batch_work(reader: Reader) -> None:
    reader.put("b1", "b2", "one", "two")
    assert reader.read(3) == ["one", "two", "b1"]
    reader.done("one")
    reader.put("three")
    assert reader.read(1) == ["three"]
    reader.done("two")
    assert reader.read(1) == ["b2"]


def test_a_read_goes_on_where_it_may_not_be_ended(broker: Broker, redis_url: str) -> None:
    """Then batch work waits until something else comes, or the read ends by itself."""
    broker.redis.acl_setuser(
        "limited", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=["-client"]
    )
    reader = Reader(redis_url.replace("unix://", "unix://limited:secret@"))
    try:
        reader.put("b1", "b2", "b3")
        assert reader.read(2) == ["b1", "b2"]
        reader.done("b1")
        assert reader.read(0) == []
        reader.put("one")
        assert reader.read(2) == ["one", "b3"]
    finally:
        reader.close()
        broker.redis.acl_deluser("limited")


def test_what_cannot_be_done_now_is_left_in_its_queue(broker: Broker, redis_url: str) -> None:
    now: set[str] = set()
    reader = Reader(redis_url, read_s=1, open_queues=lambda: now)
    reader.put("one", "b1")
    assert reader.read(0) == []
    now.add(BATCH_QUEUE)
    assert reader.read(1) == ["b1"]
    now.clear()
    now.add(SANDBOX_QUEUE)
    assert reader.read(1) == ["one"]
    reader.put("b2")
    assert reader.read(0) == []
    assert broker.redis.llen(BATCH_QUEUE) == 1
    reader.close()


@pytest.fixture
def worker(
    services: Services, engine: docker.DockerClient, tmp_path: Path, jobs_table: Jobs, broker: Broker
) -> Iterator[Worker]:
    """A worker with two places, which is soon taken for deaf."""
    empty(services)
    urls = services.database_url, services.redis_url
    started = Worker(tmp_path / "log", *urls, instance=instance_name(), jobs="2", deaf_s="2")
    try:
        ready(jobs_table, started)
        yield started
    finally:
        print(started.log.read_text())
        started.end(engine)


def test_a_job_beside_a_batch_need_not_wait(worker: Worker, jobs_table: Jobs, broker: Broker) -> None:
    # Longer than it takes to be thought deaf: messages wait for which there is no place.
    codes = ["import time; time.sleep(8)", "print(2)", "print(3)"]
    batch = [jobs_table.add(code, priority="batch") for code in codes]
    for job_id in batch:
        broker.celery.send_task(ADVANCE, args=[str(job_id)], queue=BATCH_QUEUE)
    eventually(lambda: jobs_table.count("running") == 1, "one job of the batch runs")
    one = jobs_table.get(run(jobs_table, broker, "print(1)"))
    for job_id in batch:
        ended(jobs_table, job_id)
    first, second, third = (jobs_table.get(job_id) for job_id in batch)
    assert one.finished_at < first.finished_at
    assert first.finished_at <= second.started_at <= second.finished_at <= third.started_at
    assert {each.verdict for each in (first, second, third)} == {"ok"}
    assert worker.process.poll() is None


def test_how_many_places_there_are_is_told(worker: Worker, jobs_table: Jobs) -> None:
    row = jobs_table.worker(worker.instance)
    assert row is not None
    assert (row.facts["jobs"], row.facts["batch_jobs"]) == (2, 1)
