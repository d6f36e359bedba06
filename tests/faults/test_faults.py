"""The most telling faults, once each, on one stack. `make faults` has all of them, many times each."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

import tests.faults.catalogue  # noqa: F401 (fills the table)
from tests.faults.entries import ELSEWHERE, FAULTS, Trial
from tests.faults.stack import Stack, raised

TELLING = (
    "F10",  # messages that come ten times
    "F15.stored",  # a lost answer of the database
    "F14.killed",
    "F19",  # a container removed by hand
    "F02",  # a worker that is killed
    "F31.once",  # or asked to leave
)


@pytest.fixture(scope="module")
def stack(engine: docker.DockerClient, image: str) -> Iterator[Stack]:
    """A service of its own; it must end without a trace."""
    folder = Path(tempfile.mkdtemp(prefix="retort-faults-"))
    with raised(folder, engine) as stack:
        yield stack
        for host in stack.hosts:
            print(host.logs())
        assert stack.end() == []
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", TELLING)
def test_the_promise_holds(stack: Stack, name: str) -> None:
    FAULTS[name].inject(Trial(stack, seed=7))
    stack.heal()


def test_every_row_has_an_entry_or_is_shown_elsewhere() -> None:
    assert {each.row for each in FAULTS.values()} | set(ELSEWHERE) == {f"F{n:02}" for n in range(1, 41)}
