"""Cells for tests: started one at a time on the real engine, destroyed whatever happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from domain.limits import load_profiles
from worker.sandbox import images, spec
from worker.sandbox.cell import Cell
from worker.sandbox.engine import Engine
from worker.sandbox.running import Ending, Program
from worker.sandbox.spec import CellSpec
from worker.sandbox.verdict import Decision, decide

STANDARD, EXTENDED = (load_profiles()[name] for name in ("standard", "extended"))
INSTANCE = f"tests-{uuid4().hex[:8]}"  # the tests run in several processes


def start_cell(image: str = "python", **changes: Any) -> Cell:
    """A cell of an image, ready for a program; whoever asks for it destroys it."""
    settings: dict[str, Any] = {
        "image": images.resolve(image).tag,
        "profile": STANDARD,
        "runtime": "runc",
        "instance": INSTANCE,
        "worker": "tests",
        "uid": spec.new_uid(),
        "limits": STANDARD.defaults,
        **changes,
    }
    cell = Cell(Engine(), CellSpec(**settings))
    try:
        cell.start()
    except BaseException:
        cell.destroy()
        raise
    return cell


@contextmanager
def started_cell(image: str = "python", **changes: Any) -> Iterator[Cell]:
    """A cell of an image, ready for a program."""
    cell = start_cell(image, **changes)
    try:
        yield cell
    finally:
        cell.destroy()


def program(code: str | bytes, *, limits: dict[str, Any] | None = None, **parts: Any) -> Program:
    """A Python program with the standard limits, or others."""
    text = code.encode() if isinstance(code, str) else code
    return Program(text, "main.py", STANDARD.resolve(limits or {"timeout_s": 20}), **parts)


def run_once(
    code: str | bytes, *, limits: dict[str, Any] | None = None, runtime: str = "runc", **parts: Any
) -> tuple[Decision, Ending]:
    """Run a program in a cell of its own: the verdict and the facts."""
    job = program(code, limits=limits, **parts)
    # On gVisor a cell is started with its job's limits: they cannot be changed later.
    with started_cell(runtime=runtime, limits=STANDARD.defaults if runtime == "runc" else job.limits) as cell:
        ending = cell.run(job)
        return decide(ending), ending


def labelled_containers(instance: str = INSTANCE) -> list[dict[str, Any]]:
    """What is left in the engine under an instance's label."""
    return Engine().labelled(spec.LABEL_INSTANCE, instance)
