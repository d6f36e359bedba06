"""What a claim does with cells that fail. Everything around the step is a stand-in; the step itself is real."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from domain.languages import load_languages
from domain.limits import load_profiles
from domain.states import State
from worker.claimed import ClaimedJob
from worker.judging import Judging
from worker.leases import Lease
from worker.pipeline import CELLS, Pipeline
from worker.sandbox.running import Ending
from worker.sandbox.stream import CellLost, NotBegun

PROFILES = load_profiles()
GOOD = Ending(status=0, stdout=b"1\n", stdout_bytes=2)
GONE, LOST = NotBegun("the stream broke"), CellLost("the container ended")


class Around:
    """Store, pool and bell at once: gives cells that end like this, and notes what is done with them."""

    def __init__(self, ends: Sequence[Ending | Exception]) -> None:
        self.done: list[Any] = []
        self.settings = SimpleNamespace(instance="w")
        self._ends = iter(ends)

    def take(self, image: str, _: Any, **__: Any) -> Any:
        """The next cell."""
        end = next(self._ends)

        def run(*_: Any, on_start: Callable[[], None], **__: Any) -> Ending:
            if isinstance(end, NotBegun):
                raise end
            on_start()
            if isinstance(end, Exception):
                raise end
            return end

        spec = SimpleNamespace(image=image, runtime="runc")
        cell = SimpleNamespace(spec=spec, id="c", caller=None, run=run, kill=None)
        return SimpleNamespace(cell=cell, start="warm", waited_s=0.0, reused=False)

    def give_back(self, _: Any, *, reusable: bool) -> None:
        """A cell is not needed any more."""
        self.done.append("given back" if not reusable else "kept")

    def finish(self, _: Any, *, verdict: str, **__: Any) -> bool:
        """The result."""
        self.done.append(verdict)
        return True

    def retry(self, _: Any, *, attempt: dict[str, Any]) -> bool:
        """Another claim is to run it."""
        self.done.append(attempt["failure"])
        return True

    def tell(self, _: Any, state: State) -> None:
        """Waiting clients hear of it."""
        self.done.append(state.value)

    def queued(self, *_: Any) -> None:
        """It is rung for again."""

    @contextmanager
    def watching(self, *_: Any) -> Iterator[Any]:
        """Its output is shown."""
        yield SimpleNamespace(note=None)

    def choose(self, *_: Any) -> Any:
        """The language and its image."""
        return load_languages()["python"], "retort/python:1"

    def digest(self, _: str) -> str:
        """Of the image."""
        return "sha256:1"


def carry_out(ends: Sequence[Ending | Exception], *, claims: int = 1) -> list[Any]:
    """Run a job whose cells end like this."""
    around: Any = Around(ends)
    pipeline = Pipeline(
        store=around,
        pool=around,
        bell=around,
        live=around,
        offers=around,
        profiles=PROFILES,
        judging=Judging.__new__(Judging),
        memory=around,
        storage=around,
    )
    job = ClaimedJob(
        id=uuid4(),
        token=uuid4(),
        caller_id=uuid4(),
        state=State.RUNNING,
        claims=claims,
        code="print(1)",
        language="python",
        profile="standard",
        limits=PROFILES["standard"].defaults,
        stdin=b"",
        args=(),
        env={},
        reuse="never",
    )
    pipeline.run(job, Lease(job.id, job.token))
    done: list[Any] = around.done
    return done


def test_a_cell_that_fails_before_the_program_is_replaced_by_another() -> None:
    assert carry_out([GONE, GONE, GOOD]) == [
        "given back", "given back", "running", "ok", "finished", "given back",
    ]  # fmt: skip


def test_that_costs_a_job_no_try() -> None:
    assert "ok" in carry_out([GONE, GOOD], claims=2)


def test_a_program_that_began_is_not_begun_again_by_the_same_claim() -> None:
    assert carry_out([LOST, GOOD]) == ["running", "sandbox_crash: the container ended", "given back"]


@pytest.mark.parametrize(
    ("claims", "end"), [(1, ["sandbox_crash: the stream broke"]), (2, ["sandbox_crash", "finished"])]
)
def test_a_job_that_no_cell_survives_comes_to_an_end(claims: int, end: list[str]) -> None:
    assert carry_out([GONE] * (CELLS + 1), claims=claims) == [
        *["given back"] * (CELLS - 1), *end, "given back",
    ]  # fmt: skip
