"""docs/configuration.md from the classes that read the settings: `make configuration`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from api.settings import Settings
from telemetry.settings import TelemetrySettings
from worker.hooks.settings import HookSettings
from worker.model.gateways import GatewaySettings
from worker.model.settings import ModelSettings
from worker.settings import WorkerSettings

DOCUMENT = Path(__file__).parents[1] / "docs" / "configuration.md"

HEAD = """\
# Configuration

Every setting of every process, made from the classes that read them: `make configuration` writes this page, and
a test holds it against them. All are environment variables; each process reads them once, at its start, and
ends with a message where one is wrong. A setting that several processes have must be the same for all of them.
Passwords and keys can be in files: settings that end in `_FILE` name them.

What `retort up`, `make run` and compose read beside these is in [operations.md](operations.md).
"""


@dataclass(frozen=True)
class Part:
    """Settings that belong together."""

    title: str
    says: str
    settings: type[BaseSettings]


_ASKS = "Read by workers that ask models"

PARTS = (
    Part("The API", "Read by `python -m api`.", Settings),
    Part("A worker", "Read by `python -m worker.main`.", WorkerSettings),
    Part("Gateways", f"{_ASKS}: [models.md](models.md).", GatewaySettings),
    Part("Calls of models", f"{_ASKS}: [model-calls.md](model-calls.md).", ModelSettings),
    Part(
        "The sender of webhooks",
        "Read by `python -m worker.hooks.main`: [webhooks.md](webhooks.md).",
        HookSettings,
    ),
    Part(
        "Metrics and traces",
        "Read by all of these: [metrics.md](metrics.md), [operations.md](operations.md#traces).",
        TelemetrySettings,
    ),
)

#: Defaults that depend on the machine; the description says what they are.
_DEPENDS = "depends"


def reference() -> str:
    """The whole document."""
    return "\n".join((HEAD, *(line for part in PARTS for line in _part(part)))).rstrip() + "\n"


def _part(part: Part) -> Iterator[str]:
    yield f"## {part.title}"
    yield ""
    yield part.says
    yield ""
    yield "| variable | default | allowed | meaning |"
    yield "| --- | --- | --- | --- |"
    prefix = part.settings.model_config.get("env_prefix", "")
    for name, field in part.settings.model_fields.items():
        cells = (f"`{(prefix + name).upper()}`", _default(field), _allowed(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def undescribed() -> list[str]:
    """Settings that say nothing of themselves."""
    return [
        f"{part.settings.__name__}.{name}"
        for part in PARTS
        for name, field in part.settings.model_fields.items()
        if not field.description
    ]


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return _DEPENDS
    if field.default is PydanticUndefined:
        return "**required**"
    return _value(field.default)


def _value(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, frozenset):
        return ", ".join(sorted(f"`{each.value}`" for each in value))
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    return f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    said = []
    for bound in field.metadata:
        match bound:
            case Ge(ge=value):
                said.append(f"≥ {value}")
            case Gt(gt=value):
                said.append(f"> {value}")
            case Le(le=value):
                said.append(f"≤ {value}")
            case Lt(lt=value):
                said.append(f"< {value}")
            case _ if pattern := getattr(bound, "pattern", None):
                said.append(f"`{pattern}`")
    return ", ".join(said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document, or with `--check` only say whether it is as it should be."""
    parser = argparse.ArgumentParser(prog="make configuration", description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = reference()
    if parser.parse_args(arguments).check:
        same = DOCUMENT.read_text() == text
        print(f"{DOCUMENT.name} is {'up to date' if same else 'not up to date: run make configuration'}")
        return 0 if same else 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
