"""The pool over several kinds of cell: tiers, profiles that come and go, a ceiling for memory, health."""

import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import docker
import pytest

from domain.limits import load_profiles
from domain.states import Runtime, Verdict
from tests.integration.sandboxes import STANDARD, labelled_containers, program
from tests.integration.test_pool import until
from tests.integration.tiers import STRONG, TIERS
from worker.sandbox import keeper, shelf
from worker.sandbox.engine import Engine
from worker.sandbox.lending import Lent, PoolSettings, PoolUnavailable
from worker.sandbox.pool import Pool
from worker.sandbox.verdict import decide

INSTANCE = f"tests-pool-{uuid4().hex[:8]}"
EXTENDED = load_profiles()["extended"]

Make = Callable[..., Pool]


@pytest.fixture
def make(engine: docker.DockerClient, image: str) -> Iterator[Make]:
    """Pools that are closed at the end, and leave nothing."""
    made: list[Pool] = []

    def new(**settings: object) -> Pool:
        usual = {"runtimes": tuple(TIERS), "least": 1, "most": 3, "cells": 6, **settings}
        pool = Pool(Engine(), PoolSettings(INSTANCE, **usual))  # type: ignore[arg-type]
        pool.refusal = None
        pool.open()
        made.append(pool)
        return pool

    yield new
    for pool in made:
        pool.close()
    assert labelled_containers(INSTANCE) == []


def give_back(pool: Pool, *lents: Lent) -> None:
    for lent in lents:
        pool.give_back(lent, reusable=False)


def test_a_cell_is_of_the_tier_that_was_asked_for(make: Make, image: str) -> None:
    pool = make()
    for runtime in TIERS:
        lent = pool.take(image, STANDARD, runtime=runtime)
        assert lent.cell.spec.runtime == runtime
        assert Engine().inspect(lent.cell.id)["HostConfig"]["Runtime"] == runtime
        ending = lent.cell.run(program("print(6 * 7)"))
        assert (decide(ending).verdict, ending.stdout) == (Verdict.OK, b"42\n")
        give_back(pool, lent)
    assert set(pool.stats.starts) == set(TIERS)


def test_no_tier_stands_in_for_another(make: Make, image: str) -> None:
    pool = make(runtimes=(Runtime.RUNC,))
    with pytest.raises(PoolUnavailable, match="does not offer runsc"):
        pool.take(image, STANDARD, runtime=Runtime.RUNSC, timeout_s=5)
    pool = make(runtimes=(Runtime.RUNC, Runtime.RUNSC), least=0)
    pool.refuse(Runtime.RUNSC, "for a reason")
    with pytest.raises(PoolUnavailable, match="for a reason"):
        pool.take(image, STANDARD, runtime=Runtime.RUNSC, timeout_s=5)
    assert pool.why_not is None  # the other one works
    give_back(pool, pool.take(image, STANDARD, runtime=Runtime.RUNC))


@pytest.mark.parametrize("runtime", STRONG)
def test_where_limits_cannot_change_cells_are_made_to_order(make: Make, image: str, runtime: Runtime) -> None:
    pool = make(runtimes=(runtime,))
    small = STANDARD.resolve({"memory_mb": 64, "timeout_s": 20})
    lent = pool.take(image, STANDARD, runtime=runtime, limits=small)
    assert lent.start == "cold"
    assert lent.cell.spec.limits.memory_mb == 64
    ending = lent.cell.run(program("x = bytearray(100 << 20)", limits={"memory_mb": 64, "timeout_s": 20}))
    assert decide(ending).verdict is Verdict.OUT_OF_MEMORY
    give_back(pool, lent)
    until(lambda: len(pool.shelves) <= 1, "the shelf for this one job is gone")


def test_shelves_that_nobody_asked_for_come_and_go(
    make: Make, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(runtimes=(Runtime.RUNC,))
    pool.shelf(image, STANDARD)
    until(lambda: pool.stats.idle == 1, "the kept shelf is filled")
    assert len(pool.shelves) == 1
    give_back(pool, pool.take(image, EXTENDED))
    other = pool.shelves[image, "extended", Runtime.RUNC, None]
    until(lambda: len(other.idle) == 1, "one is kept ahead after the first job")
    monkeypatch.setattr(shelf, "UNUSED_S", 0.2)
    monkeypatch.setattr(shelf, "SINK_S", 0.2)
    until(lambda: not other.idle and not other.starting, "none is kept once it is unused")
    until(lambda: pool.stats.idle == 1, "the kept one stays")


def test_memory_of_all_cells_has_a_ceiling(make: Make, image: str) -> None:
    pool = make(runtimes=(Runtime.RUNC,), memory_mb=1200, least=2)
    pool.shelf(image, STANDARD)
    until(lambda: pool.stats.idle == 2, "two idle cells")
    lents = [pool.take(image, STANDARD) for _ in range(2)]
    assert pool.memory_mb() >= 2 * 512
    with pytest.raises(PoolUnavailable, match="no sandbox became free"):
        pool.take(image, STANDARD, timeout_s=1)  # cells there are, but not the memory for what may run in them
    small = STANDARD.resolve({"memory_mb": 16})
    lents.append(pool.take(image, STANDARD, limits=small))
    taken: list[Lent] = []
    waiting = threading.Thread(target=lambda: taken.append(pool.take(image, STANDARD)))
    waiting.start()
    give_back(pool, lents.pop(0))
    waiting.join(30)
    assert len(taken) == 1
    assert pool.memory_mb() <= 1200
    give_back(pool, *lents, *taken)


def test_one_job_larger_than_the_ceiling_runs_alone(make: Make, image: str) -> None:
    pool = make(runtimes=(Runtime.RUNC,), memory_mb=300)
    lent = pool.take(image, STANDARD)
    give_back(pool, lent)


def test_idle_cells_that_died_are_replaced_without_a_job(
    make: Make, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "HEALTH_S", 0.1)
    pool = make(runtimes=(Runtime.RUNC,))
    pool.shelf(image, STANDARD)
    until(lambda: pool.stats.idle == 1, "an idle cell")
    (dead,) = [container["Id"] for container in labelled_containers(INSTANCE)]
    Engine().remove(dead)
    (kept,) = pool.shelves.values()
    until(lambda: [cell.id for cell in kept.idle] not in ([], [dead]), "another one in its place")
    assert pool.stats.lost == 1
    lent = pool.take(image, STANDARD)
    assert (lent.start, lent.cell.id == dead) == ("warm", False)
    give_back(pool, lent)


def test_in_quiet_times_cells_are_renewed(make: Make, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "KEEP_WARM_S", 1.0)
    pool = make(runtimes=(Runtime.RUNC,))
    pool.shelf(image, STANDARD)
    (kept,) = pool.shelves.values()
    until(lambda: len(kept.idle) > 0, "an idle cell")
    first = kept.idle[0].id
    until(lambda: pool.stats.renewed >= 1, "the oldest is given up once another is there")
    until(lambda: first not in {c["Id"] for c in labelled_containers(INSTANCE)}, "and removed")
    lent = pool.take(image, STANDARD)
    assert lent.start == "warm"
    give_back(pool, lent)


def test_starts_are_measured(make: Make, image: str) -> None:
    pool = make(runtimes=(Runtime.RUNC,))
    began = time.monotonic()
    give_back(pool, pool.take(image, STANDARD))
    report = pool.stats.as_dict()
    starts = report["starts"]["runc"]
    assert starts["count"] >= 1
    assert 0 < starts["sum_s"] < (time.monotonic() - began) * 4
    assert report["waits"]["count"] == report["cold"] == 1
