"""Cells by image, and programs by language."""

from collections.abc import Callable
from typing import Any

from tests.integration.programs_by_language import LANGUAGES
from tests.integration.sandboxes import STANDARD, start_cell
from worker.sandbox.cell import Cell
from worker.sandbox.collecting import Sink
from worker.sandbox.running import Ending, Program
from worker.sandbox.verdict import Decision, decide

#: What `Cells.run` is.
Run = Callable[..., tuple[Decision, Ending]]


class Cells:
    """One cell for each image, used again and again; a new one where the last was killed or was not clean."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}

    def __call__(self, image: str) -> Cell:
        cell = self._cells.get(image)
        if cell is None:
            cell = self._cells[image] = start_cell(image)
        return cell

    def drop(self, image: str) -> None:
        """Destroy the cell of an image."""
        self._cells.pop(image).destroy()

    def run(
        self, language: str, what: str, *, image: str | None = None, sink: Sink | None = None, **parts: Any
    ) -> tuple[Decision, Ending]:
        """Run a program by name, or code; the verdict and the facts. The cell is reset afterwards."""
        spoken = LANGUAGES[language]
        image = image or spoken.image
        cell = self(image)
        ending = cell.run(make(language, spoken.programs.get(what, what), **parts), reset=True, sink=sink)
        if not cell.resetting or (left := cell.wait_clean()) is not None:
            self.drop(image)
            assert not cell.resetting, left
        return decide(ending), ending

    def close(self) -> None:
        """Destroy all."""
        for image in list(self._cells):
            self.drop(image)


def make(language: str, code: str, *, limits: dict[str, Any] | None = None, **parts: Any) -> Program:
    """A program in a language."""
    spoken = LANGUAGES[language]
    return Program(
        code.encode(),
        spoken.file,
        STANDARD.resolve(limits or {}),
        compiled=spoken.compiled,
        **parts,
    )
