"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("domain", "storage", "api", "worker", "retort")


def with_examples() -> list[str]:
    """Modules that show examples."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    shown = [path for path in paths if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in shown]


@pytest.mark.parametrize("name", with_examples())
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


def test_some_modules_have_examples() -> None:
    assert {"domain.bell", "domain.limits"} <= set(with_examples())
