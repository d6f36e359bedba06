"""Several hosts on one database and one broker: they share the work and nothing else; they come and go."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import docker
import httpx
import pytest
from sqlalchemy import text

from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker, containers, eventually, ready, sweep
from tests.hosts import Forward, Host, may_have_namespaces
from tests.models import scripted_process
from tests.tasks import QUICK, add_task, ended, gateway_environment, ring

#: A program that takes a while, and of which each run can be told from the next.
CODE = "import time; time.sleep(0.3); print({number})"
JOBS = "3"


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as stack:
        yield stack


def submit(table: Jobs, broker: Broker, count: int, first: int = 0) -> dict[UUID, bytes]:
    """So many jobs, and what each prints."""
    numbers = range(first, first + count)
    ids = table.add_many(table.row(CODE.format(number=n), reuse="caller") for n in numbers)
    broker.ring(*ids)
    return {job_id: b"%d\n" % n for job_id, n in zip(ids, numbers, strict=True)}


def did(table: Jobs, instance: str) -> int:
    """Results that a host recorded."""
    with table.engine.connect() as connection:
        query = text("SELECT count(*) FROM attempts WHERE worker = :name AND verdict IS NOT NULL")
        return int(connection.execute(query, {"name": instance}).scalar_one())


def holds(table: Jobs, instance: str) -> int:
    """Jobs that a host has."""
    with table.engine.connect() as connection:
        query = text("SELECT count(*) FROM jobs WHERE leased_by = :name")
        return int(connection.execute(query, {"name": instance}).scalar_one())


def let_run_out(table: Jobs, instance: str) -> None:
    """What waiting for the leases of a host that is gone comes to."""
    with table.engine.connect() as connection:
        connection.execute(
            text(
                "UPDATE jobs SET lease_until = now() - interval '1 s', rung_at = now() - interval '1 min' "
                "WHERE leased_by = :name"
            ),
            {"name": instance},
        )


def test_hosts_leave_and_join_under_load_and_nothing_is_lost(
    services: Services,
    engine: docker.DockerClient,
    image: str,
    tmp_path_factory: pytest.TempPathFactory,
    closing: ExitStack,
) -> None:
    empty(services)
    folder = tmp_path_factory.mktemp("hosts")
    table, broker = Jobs(services.database_url), Broker(services.redis_url)
    closing.callback(table.close)
    closing.callback(broker.close)
    model = closing.enter_context(scripted_process(folder / "model.log"))
    leaves, dies, joins = (
        Host(folder / name, services, engine, closing) for name in ("leaves", "dies", "joins")
    )
    asks = Host(folder / "asks", services, engine, closing, gateway_port=int(httpx.URL(model).port or 0))
    for host in (leaves, dies):
        host.start(serves="sandbox", jobs=JOBS, warm_most=JOBS)
    asks.start(environment={**gateway_environment(asks.gateway_url), **QUICK}, serves="model")
    for host in (leaves, dies):
        ready(table, worker_of(host))

    # A container of a host that is away, whose name begins like that of one that will clean up.
    absent = f"{dies.instance}-2"
    labels = {"retort.instance": absent, "retort.worker": "another"}
    bystander = engine.api.create_container(image, ["true"], labels=labels)["Id"]
    closing.callback(sweep, engine, absent)

    # Each has a pool of its own, and the one that asks models has none.
    assert leaves.containers()
    assert dies.containers()
    assert not leaves.containers() & dies.containers()
    assert asks.containers() == set()
    eventually(lambda: table.worker(asks.instance) is not None, "the host that asks models reports")
    assert table.worker(asks.instance).facts["roles"] == ["model"]  # type: ignore[union-attr]

    expected = submit(table, broker, 36)
    eventually(lambda: did(table, leaves.instance) > 2 and did(table, dies.instance) > 2, "both work")
    joins.start(serves="sandbox", jobs=JOBS, warm_most=JOBS)
    eventually(lambda: holds(table, dies.instance) > 0, "it has a job when it dies")
    worker_of(dies).kill()
    orphans = dies.containers()
    worker_of(leaves).terminate()
    assert worker_of(leaves).process.wait(60) == 0
    assert holds(table, leaves.instance) == 0  # it ended what it had
    eventually(lambda: leaves.containers() == set(), "and took its sandboxes with it")
    let_run_out(table, dies.instance)
    expected |= submit(table, broker, 4, first=36)
    eventually(lambda: table.unfinished() == 0, lambda: f"{table.unfinished()} jobs are left", 90)

    assert did(table, joins.instance) > 0
    found = table.outputs()
    for job_id, printed in expected.items():
        assert table.get(job_id).verdict == "ok"
        *before, last = found[job_id]
        assert last == ("ok", printed)
        assert len(before) <= 1  # what the host that died took along
    failures = {each.failure for job_id in expected for each in table.attempts(job_id) if each.failure}
    assert failures == {"worker_lost"}

    # Nobody cleans up for another host: only it itself, when it comes back.
    assert dies.containers() == orphans
    dies.start(serves="sandbox", jobs=JOBS, warm_most=JOBS)
    eventually(lambda: not dies.containers() & orphans, "it removes what it left behind")
    assert joins.containers()
    assert containers(engine, absent) == [bystander]

    # A task goes from the host that asks models to one that runs programs.
    ready(table, worker_of(dies))
    task = add_task(table, "[scripted:right] greet")
    ring(broker, task)
    assert ended(table, task).verdict == "ok"
    (attempt,) = table.attempts(task)
    assert attempt.worker in (dies.instance, joins.instance)


def worker_of(host: Host) -> Worker:
    """Its process."""
    assert host.worker is not None
    return host.worker


def test_a_host_has_a_network_of_its_own(
    services: Services,
    engine: docker.DockerClient,
    tmp_path_factory: pytest.TempPathFactory,
    closing: ExitStack,
) -> None:
    """What the test above stands on: from inside a host, loopback is the host's own."""
    host = Host(tmp_path_factory.mktemp("host"), services, engine, closing)
    with socket.create_server(("127.0.0.1", 0)) as here:
        port = here.getsockname()[1]
        forward = Forward(host.address, port)
        closing.callback(forward.close)
        look = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"

        def reaches(address: str, number: int) -> bool:
            command = [*host.inside, sys.executable, "-c", look, address, str(number)]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        assert reaches(host.address, forward.port)
        assert reaches("127.0.0.1", port) == (not may_have_namespaces())
