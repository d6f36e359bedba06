"""What the figures of a soak say, on figures made by hand."""

import pytest

from tests.soak.faults import FAULTS
from tests.soak.figures import Sample, flat, thirds
from tests.soak.kinds import kinds


def samples(memory_mb: list[float]) -> list[Sample]:
    """One for each value, all else steady."""
    return [Sample(5.0 * n, value, 60, 30, 20, 4) for n, value in enumerate(memory_mb)]


@pytest.mark.parametrize(
    ("memory_mb", "is_flat"),
    [
        pytest.param([150.0] * 9, True, id="steady"),
        pytest.param([80.0] * 3 + [150.0] * 6, True, id="it grew while it warmed up"),
        pytest.param([100.0 + 40 * n for n in range(9)], False, id="it grows and grows"),
        pytest.param([10.0] * 6 + [45.0] * 3, True, id="too little to matter"),
    ],
)
def test_flat(memory_mb: list[float], is_flat: bool) -> None:
    found = flat(samples(memory_mb))
    assert found["memory_mb"]["flat"] is is_flat
    assert found["descriptors"] == {"thirds": [60.0, 60.0, 60.0], "flat": True}


def test_thirds() -> None:
    assert thirds([1, 1, 2, 2, 3, 3]) == (1, 2, 3)
    assert thirds([5]) == (5, 5, 5)


def test_ten_kinds_of_faults_and_jobs_of_every_end() -> None:
    assert len(FAULTS) == 10
    found = kinds(["python", "bash"], tasks=True)
    assert {each.verdict for each in found} == {
        "ok", "error", "signalled", "out_of_memory", "output_limit", "timeout",
    }  # fmt: skip
    assert any("task" in each.job for each in found)
    assert not any("task" in each.job for each in kinds(["python"]))
