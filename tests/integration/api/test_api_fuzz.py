"""A seeded share of `make fuzz`: the whole OpenAPI document, a few requests to each operation."""

from pathlib import Path

import pytest

from tests.conftest import Services
from tests.fuzz.run import fuzz, report
from tests.fuzz.service import Fuzzed


@pytest.mark.usefixtures("clean_tables")
def test_a_share_of_the_fuzz(services: Services, tmp_path: Path) -> None:
    fuzzed = Fuzzed(tmp_path, services.database_url, services.redis_url)
    try:
        status = fuzz(fuzzed, tmp_path, examples=4, seed=1, phases=("fuzzing", "stateful"))
        ran, failed = report(fuzzed)
    finally:
        fuzzed.close()
    assert (status, failed) == (0, 0), "the captured output says what was found"
    assert ran >= 100
