"""Faults that a soak injects at random. Whatever is in `FAULTS` comes, each as often as any other."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import docker.errors
import httpx
import redis
from celery.exceptions import OperationalError
from sqlalchemy.exc import DBAPIError

from tests.harness import containers
from tests.soak.stack import Stack

Fault = Callable[[Stack, random.Random], None]

FAULTS: dict[str, Fault] = {}


def fault(does: Fault) -> Fault:
    """Have it come."""
    FAULTS[does.__name__.replace("_", " ")] = does
    return does


@fault
def kill_a_worker(stack: Stack, chance: random.Random) -> None:
    """As a crash does; it is started again at once."""
    place = stack.one(chance)
    place.away = True
    place.process.kill()
    place.process.wait(30)
    place.start()
    place.away = False


@fault
def stop_a_worker_for_a_while(stack: Stack, chance: random.Random) -> None:
    """Now and then for longer than its leases last."""
    place = stack.one(chance)
    place.signal(signal.SIGSTOP)
    time.sleep(chance.choice([2.0, 5.0, 33.0]))
    place.signal(signal.SIGCONT)


@fault
def flush_the_broker(stack: Stack, chance: random.Random) -> None:
    """All messages are gone."""
    stack.broker.redis.flushall()


@fault
def restart_the_broker(stack: Stack, chance: random.Random) -> None:
    """It is away for a moment."""
    assert stack.valkey.process is not None
    os.kill(stack.valkey.process.pid, signal.SIGKILL)
    stack.valkey.process.wait(30)
    time.sleep(chance.uniform(0.1, 3.0))
    stack.valkey.start()


@fault
def terminate_connections_to_the_database(stack: Stack, chance: random.Random) -> None:
    """All but our own."""
    stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


@fault
def remove_a_container(stack: Stack, chance: random.Random) -> None:
    """By hand, whatever runs in it."""
    found = containers(stack.engine, stack.one(chance).instance)
    if found:
        with suppress(docker.errors.APIError):
            stack.engine.api.remove_container(chance.choice(found), force=True)


@fault
def drain_a_worker_and_let_it_join_again(stack: Stack, chance: random.Random) -> None:
    """As an upgrade does."""
    place = stack.one(chance)
    place.away = True
    place.signal(signal.SIGTERM)
    place.process.wait(90)
    time.sleep(chance.uniform(0.0, 3.0))
    place.start()
    place.away = False


@fault
def ring_again_and_again(stack: Stack, chance: random.Random) -> None:
    """Messages come twice, late and in any order, also of jobs that have ended."""
    ids = [row.id for row in stack.sql("SELECT id FROM jobs ORDER BY id DESC LIMIT 40")]
    chance.shuffle(ids)
    stack.broker.ring(*ids, *ids[:20])


@fault
def cancel_many(stack: Stack, chance: random.Random) -> None:
    """Submit jobs and cancel each, waiting or running."""
    with stack.client() as client:
        made = []
        for _ in range(20):
            job = {"code": "import time; time.sleep(2)", "reuse": "caller", "labels": {"cancel": "yes"}}
            answer = client.post("/v1/jobs", json=job)
            if answer.status_code == 202:
                made.append(answer.json()["id"])
        time.sleep(chance.uniform(0.0, 1.0))
        for job_id in made:
            client.post(f"/v1/jobs/{job_id}/cancel")


@fault
def kill_the_api(stack: Stack, chance: random.Random) -> None:
    """As a crash does; it is started again."""
    assert stack.server is not None
    stack.server.process.kill()
    stack.server.process.wait(30)
    stack.start_api()


#: What a fault may meet because another one came just before.
EXPECTED = (DBAPIError, httpx.HTTPError, redis.RedisError, OperationalError, docker.errors.APIError, OSError)
