"""The hostile catalogue: each entry against a real service, and after each everything that must always hold.

`make test` runs the entries marked fast; `make hostile` runs all of them (`TIER=runsc`, `TIMES=5`).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.hostile.catalogue import (
    artifacts,
    files,
    http,
    inputs,
    kernel,
    lifecycle,
    memory,
    models,
    network,
    output,
    processes,
    runner,
    service,
    tenancy,
    webhooks,
)
from tests.hostile.entries import Entry, Program
from tests.hostile.invariants import Invariants
from tests.hostile.stage import LANGUAGES, Stage, raised
from worker.sandbox import images

ENTRIES: list[Entry] = [
    entry
    for group in (
        *(processes, memory, files, artifacts, inputs, output, lifecycle, runner, network, kernel),
        *(tenancy, service, webhooks, models, http),
    )
    for entry in group.ENTRIES
]

TIER = os.environ.get("RETORT_HOSTILE_TIER", "runc")
TIMES = int(os.environ.get("RETORT_HOSTILE_TIMES", "0"))  # 0: the fast ones, once
CHOSEN = [entry for entry in ENTRIES if TIMES or entry.fast]


@pytest.fixture(scope="module")
def stage(engine: docker.DockerClient, image: str) -> Iterator[Stage]:
    """The service, for all entries."""
    for language in LANGUAGES:
        images.build(language)
    folder = Path(tempfile.mkdtemp(prefix="retort-hostile-"))
    try:
        with raised(folder, engine, TIER) as stage:
            yield stage
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def invariants(stage: Stage) -> Invariants:
    """Their baseline."""
    return Invariants(stage)


@pytest.mark.parametrize("turn", range(max(TIMES, 1)))
@pytest.mark.parametrize("entry", CHOSEN, ids=lambda entry: entry.name)
def test_hostile(entry: Entry, turn: int, stage: Stage, invariants: Invariants) -> None:
    neighbour = stage.neighbour()
    result = None
    if isinstance(entry, Program):
        result = stage.submit(stage.mallory, entry.request())
        limits = result.job["limits"]
        compiling_s = limits["compile_s"] if result.job["language"] == "rust" else 0
        invariants.verdict(result, entry.right(TIER), limits["timeout_s"] + compiling_s)
        if entry.stdout is not None:
            assert result.job["stdout"] == entry.stdout, result.err
        entry.look_on(TIER, result)
        keeps = 0
    else:
        entry.tell(stage)
        keeps = entry.keeps
    neighbour.result()
    stage.neighbour().result()
    invariants.check(result, keeps)


def test_every_entry_has_a_name_of_its_own() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)
