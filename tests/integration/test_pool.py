"""The pool on the real engine: ready ahead, single use, recycling, recovery, its own containers only."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import docker
import pytest

from domain.states import Verdict
from tests.integration.sandboxes import EXTENDED, STANDARD, labelled_containers, program, started_cell
from worker.sandbox.engine import Engine, EngineDown
from worker.sandbox.lending import Lent, PoolSettings, PoolUnavailable
from worker.sandbox.pool import Pool
from worker.sandbox.shelf import Shelf
from worker.sandbox.spec import LABEL_INSTANCE
from worker.sandbox.verdict import decide

INSTANCE = f"tests-pool-{uuid4().hex[:8]}"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds. Imports in idle cells take what others leave: long on a busy machine."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


@pytest.fixture
def pool(engine: docker.DockerClient, image: str) -> Iterator[Pool]:
    pool = Pool(Engine(), PoolSettings(INSTANCE, least=2, most=4, cells=8))
    pool.refusal = None
    pool.open()
    yield pool
    pool.close()
    assert labelled_containers(INSTANCE) == []


def use(pool: Pool, lent: Lent, code: str, *, reset: bool = False) -> bytes:
    ending = lent.cell.run(program(code), reset=reset)
    pool.give_back(lent, reusable=reset)
    return ending.stdout


def test_ready_ahead_and_single_use(pool: Pool, image: str) -> None:
    pool.shelf(image, STANDARD)
    until(lambda: pool.stats.idle == 2, "two idle cells")
    first = pool.take(image, STANDARD)
    assert first.start == "warm"
    used = first.cell.id
    assert use(pool, first, "open('/tmp/mark', 'w').write('x'); print(1)") == b"1\n"
    until(lambda: pool.stats.idle == 2, "a replacement")
    second = pool.take(image, STANDARD)
    assert second.cell.id != used
    assert use(pool, second, "import os; print(os.listdir('/tmp'))") == b"[]\n"
    until(lambda: used not in {c["Id"] for c in labelled_containers(INSTANCE)}, "the used one removed")


def test_cold_when_nothing_is_ready(pool: Pool, image: str) -> None:
    lent = pool.take(image, STANDARD)
    assert lent.start == "cold"
    assert lent.waited_s > 0
    assert use(pool, lent, "print(1)") == b"1\n"


def test_recycling_within_one_caller(pool: Pool, image: str) -> None:
    first = pool.take(image, STANDARD, caller="a")
    used = first.cell.id
    use(pool, first, "print(1)", reset=True)
    again = pool.take(image, STANDARD, caller="a")
    assert (again.cell.id, again.reused) == (used, True)
    other = pool.take(image, STANDARD, caller="b")
    nobody = pool.take(image, STANDARD)
    assert used not in (other.cell.id, nobody.cell.id)
    for lent in (again, other, nobody):
        use(pool, lent, "print(1)", reset=True)
    # A cell that served nobody in particular is never kept.
    until(lambda: nobody.cell.id not in {c["Id"] for c in labelled_containers(INSTANCE)}, "removed")


def test_a_cell_that_is_not_clean_is_destroyed(pool: Pool, image: str) -> None:
    lent = pool.take(image, STANDARD, caller="a")
    used = lent.cell.id
    lent.cell.run(program("import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')"), reset=True)
    pool.give_back(lent, reusable=True)
    again = pool.take(image, STANDARD, caller="a")
    assert again.cell.id != used
    use(pool, again, "print(1)")


def test_a_container_that_vanished_is_not_lent(pool: Pool, image: str) -> None:
    pool.shelf(image, STANDARD)
    until(lambda: pool.stats.idle == 2, "two idle cells")
    for container in labelled_containers(INSTANCE):
        Engine().remove(container["Id"])
    lent = pool.take(image, STANDARD)
    assert use(pool, lent, "print(1)") == b"1\n"


def test_adapts_to_demand(pool: Pool, image: str) -> None:
    pool.shelf(image, STANDARD)
    until(lambda: pool.stats.idle == 2, "two idle cells")
    lents = [pool.take(image, STANDARD) for _ in range(4)]
    for lent in lents:
        use(pool, lent, "print(1)")
    until(lambda: pool.stats.idle > 2, "more idle cells after jobs had to wait")


def test_many_at_once(pool: Pool, image: str) -> None:
    outputs: list[bytes] = []

    def one(number: int) -> None:
        lent = pool.take(image, STANDARD)
        outputs.append(use(pool, lent, f"print({number})"))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(int(o) for o in outputs) == list(range(20))


def test_cells_given_up_for_waiting_jobs_are_not_started_again(
    engine: docker.DockerClient, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would take the room that was made, and be given up, and started again, while the jobs wait."""
    pool = Pool(Engine(), PoolSettings(f"{INSTANCE}-room", least=2, most=4, cells=5))
    pool.refusal = None
    waiting: list[tuple[str, bool]] = []
    begin = pool.crew.begin

    def watched(shelf: Shelf) -> None:
        waiting.append((shelf.profile.name, any(each.waiting for each in pool.shelves.values())))
        begin(shelf)

    monkeypatch.setattr(pool.crew, "begin", watched)
    pool.open()
    try:
        pool.shelf(image, EXTENDED)
        pool.shelf(image, STANDARD)
        until(lambda: pool.stats.idle == 4, "four idle cells")
        waiting.clear()

        def one(_: int) -> None:
            use(pool, pool.take(image, STANDARD, timeout_s=120), "print(1)")

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(one, range(18)))
        assert ("standard", True) in waiting
        assert ("extended", True) not in waiting
        until(lambda: len(pool.shelves) == 2 and all(len(each.idle) >= 1 for each in pool.shelves.values()),
              "cells for the others, once nobody waits")  # fmt: skip
    finally:
        pool.close()


def test_a_cell_that_is_importing_is_not_lent(pool: Pool, image: str) -> None:
    """Its memory limit is raised meanwhile, so a job in it would get more than it was granted."""
    pool.shelf(image, STANDARD, ("pandas",))
    shelf = pool.shelves[image, STANDARD.name, "runc", None]
    until(lambda: any(cell.preloading for cell in shelf.idle), "a cell begins to import")
    small = program("b = bytearray(300 << 20)", limits={"memory_mb": 64})
    for _ in range(3):
        lent = pool.take(image, STANDARD)
        assert not lent.cell.preloading
        assert decide(lent.cell.run(small)).verdict == Verdict.OUT_OF_MEMORY
        pool.give_back(lent, reusable=False)


def test_preloads_in_quiet_times_and_lends_what_suits(pool: Pool, image: str) -> None:
    pool.shelf(image, STANDARD, ("pandas",))
    until(lambda: pool.stats.preloaded >= 1, "a preloaded cell")
    lent = pool.take(image, STANDARD, code=b"import pandas")
    assert lent.cell.preloaded
    use(pool, lent, "print(1)")


def test_leftovers_of_a_crash_are_removed_and_only_ours(engine: docker.DockerClient, image: str) -> None:
    with (
        started_cell(instance=INSTANCE, worker="one-that-died") as dead,
        started_cell(instance=INSTANCE + "-other", worker="alive") as other,
    ):
        pool = Pool(Engine(), PoolSettings(INSTANCE, least=0, most=1, cells=2))
        pool.open()
        try:
            until(lambda: labelled_containers(INSTANCE) == [], "the leftover removed")
            assert not dead.alive()
            assert other.alive()
            labels = [c["Labels"][LABEL_INSTANCE] for c in labelled_containers(INSTANCE + "-other")]
            assert labels == [INSTANCE + "-other"]
        finally:
            pool.close()


def test_a_refusing_pool_lends_nothing(pool: Pool, image: str) -> None:
    pool.refusal = "for a reason"
    with pytest.raises(PoolUnavailable, match="for a reason"):
        pool.take(image, STANDARD, timeout_s=5)


def test_engine_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    pool = Pool(Engine(), PoolSettings("tests-away", least=1, most=1, cells=2))
    pool.refusal = None
    pool.open()
    with pytest.raises(PoolUnavailable, match="does not answer"):
        pool.take("retort/python:none", STANDARD, timeout_s=10)
    assert pool.why_not is not None
    pool.close()


def test_image_missing_is_named(engine: docker.DockerClient) -> None:
    pool = Pool(Engine(), PoolSettings("tests-missing", least=1, most=1, cells=2))
    pool.refusal = None
    pool.open()
    with pytest.raises(PoolUnavailable, match="retort/python:none"):
        pool.take("retort/python:none", STANDARD, timeout_s=10)
    pool.close()


def test_engine_errors_are_told_apart(engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    Engine().remove("no-such-container")  # as good as removed
    Engine().kill("no-such-container")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(EngineDown):
        Engine().ping()
