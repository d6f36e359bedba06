"""What an image's `image.toml` says, and the files the build makes of it for inside.

The runner is started a thousand times for each change of these files, and inside most images no Python can read
TOML: so the host reads it, once, and the image gets what is read fastest.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class RecipeError(Exception):
    """An image's `image.toml` is not what it must be."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image's `image.toml`.

    Attributes:
        language: whose programs it runs.
        version: what the language's version must begin with; None: whatever the base image has.
        like: another image, whose folder has the files that are not in this one.
        optional: built only when it is asked for by name.
        extends: the image that this one adds packages to; None: a base image of its own.
        after: the image to build before, because the two begin with the same layers.
        bases: names of base images, the most wanted first; empty: what the Dockerfile says.
        preload: what the helpers of a Python import, level by level (`modules`), and for whom (`mentions`).
        launch: how a program of another language is started; see the runner's launch.py.
    """

    language: str
    version: str | None = None
    like: str | None = None
    optional: bool = False
    extends: str | None = None
    after: str | None = None
    bases: tuple[str, ...] = ()
    preload: tuple[Mapping[str, Any], ...] = ()
    launch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mentions(self) -> tuple[str, ...]:
        """Words whose appearance in a program makes the preloaded packages worth having."""
        return tuple(word for level in self.preload for word in level["mentions"])

    def rendered(self) -> dict[str, bytes]:
        """The files that the build puts into the image, by their names in the build context."""
        told = {"language": self.language, "version": self.version}
        files = {"rendered/image.json": json.dumps(told).encode()}
        if self.launch:
            files["rendered/launch"] = _launch_lines(self.launch).encode()
        else:
            files["rendered/preload"] = _preload_lines(self.preload).encode()
        return files


def read_recipe(folder: Path) -> Recipe:
    """Read an image folder's `image.toml`.

    Raises:
        RecipeError: it lacks something, or has what nobody knows.
    """
    try:
        said = _said(folder)
        for name in ("bases", "preload"):
            said[name] = tuple(said.get(name, ()))
        return Recipe(**said)
    except (OSError, TypeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{folder.name}/image.toml: {error}") from error


def _said(folder: Path) -> dict[str, Any]:
    """What image.toml says, and what it does not say but the one of the image that it is like."""
    said = tomllib.loads((folder / "image.toml").read_text(encoding="utf-8"))
    return {**_said(folder.parent / said["like"]), **said} if "like" in said else said


def _preload_lines(levels: tuple[Mapping[str, Any], ...]) -> str:
    """For each level a line of modules and a line of words, separated by tabs, and a line of code."""
    lines = []
    for level in levels:
        if re.search(r"[\t\n]", level["rehearsal"]):
            raise RecipeError("rehearsal: neither tabs nor line ends, please")
        lines += ["\t".join(level["modules"]), "\t".join(level["mentions"]), level["rehearsal"]]
    return "".join(line + "\n" for line in lines)


def _launch_lines(launch: Mapping[str, Any]) -> str:
    """A line for each key: its name, then its values, separated by tabs."""
    lines = []
    for key, value in launch.items():
        if isinstance(value, Mapping):
            values = [f"{name}={text}" for name, text in value.items()]
        else:
            values = [value] if isinstance(value, str) else list(value)
        if any(re.search(r"[\t\n]", text) for text in values):
            raise RecipeError(f"{key}: neither tabs nor line ends, please")
        lines.append("\t".join([key, *values]) + "\n")
    return "".join(lines)
