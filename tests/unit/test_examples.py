"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("domain", "storage", "telemetry", "api", "worker", "retort", "benchmarks")


def with_examples() -> list[str]:
    """Modules that show examples."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    # Those of the client that need a service are tried in tests/integration/test_python_client.py.
    shown = [path for path, text in texts.items() if ">>> " in text and "Retort() as client" not in text]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in shown]


@pytest.mark.parametrize("name", with_examples())
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


def test_some_modules_have_examples() -> None:
    assert {"domain.bell", "domain.limits"} <= set(with_examples())
