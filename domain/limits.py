"""Limits and profiles: what a request may choose. The data file beside this module holds them.

>>> standard = load_profiles()["standard"]
>>> standard.resolve({"timeout_s": 5})
Limits(timeout_s=5, memory_mb=512, cpus=1.0, output_bytes=1048576, cpu_s=None, compile_s=30)
>>> standard.resolve({"timeout_s": 500})
Traceback (most recent call last):
    ...
domain.limits.LimitError: timeout_s must be from 1 to 120 in the profile 'standard'
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from domain.files import FileLimits


class LimitError(ValueError):
    """A request asked for a limit outside its profile's range.

    Attributes:
        field: the limit's name.
        allowed: the range, as a sentence for a person.
    """

    def __init__(self, field: str, allowed: str, profile: str) -> None:
        super().__init__(f"{field} must be {allowed} in the profile {profile!r}")
        self.field = field
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one job: seconds of wall time, MB (2**20 bytes), CPUs, bytes of stdout plus stderr.

    `cpu_s`: seconds of CPU time of all its processes together; None for no limit but what `timeout_s` and
    `cpus` leave. `compile_s`: seconds of wall time for the compiler, where the language has one; those of the
    program come on top. Rows from before these existed lack them.
    """

    timeout_s: int
    memory_mb: int
    cpus: float
    output_bytes: int
    cpu_s: int | None = None
    compile_s: int = 30

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {name: getattr(self, name) for name in _LIMITS}  # `asdict` takes ten times as long


_LIMITS = tuple(field.name for field in fields(Limits))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Limits of a profile that a request cannot choose, because a warm container already has them.

    Counts, or MB (2**20 bytes) where the name ends in `_mb`.
    """

    pids: int
    work_mb: int
    tmp_mb: int
    work_inodes: int
    shm_mb: int
    open_files: int
    file_mb: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The range of one limit, both ends allowed, and the value used where a request is silent.

    `default` None: then there is no such limit.
    """

    least: float
    most: float
    default: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of limits."""

    name: str
    title: str
    choices: Mapping[str, Choice]
    fixed: Fixed
    files: FileLimits
    larger: str | None = None  # the profile to which a task may move that this one starves

    @property
    def defaults(self) -> Limits:
        """What a job gets that asks for nothing."""
        return self.resolve({})

    def resolve(self, wanted: Mapping[str, float | None]) -> Limits:
        """The limits of a job that asks for `wanted`; a missing or None entry means the default.

        Raises:
            LimitError: a value is outside the profile's range.
        """
        values: dict[str, Any] = {}
        for field in fields(Limits):
            choice = self.choices[field.name]
            asked = wanted.get(field.name)
            value = choice.default if asked is None else asked
            if value is None:
                values[field.name] = None
                continue
            # Written so that a NaN fails too.
            if not choice.least <= value <= choice.most:
                raise LimitError(field.name, f"from {choice.least:g} to {choice.most:.15g}", self.name)
            values[field.name] = float(value) if field.type is float else int(value)
        return Limits(**values)


def _read(name: str, path: Path | None) -> dict[str, Any]:
    if path is not None:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    return tomllib.loads(files("domain").joinpath("data", name).read_text(encoding="utf-8"))


def load_profiles(path: Path | None = None) -> dict[str, Profile]:
    """The profiles by name, from `path` or from the file that comes with us."""
    return {
        name: Profile(
            name=name,
            title=entry["title"],
            choices={key: Choice(**value) for key, value in entry["choices"].items()},
            fixed=Fixed(**entry["fixed"]),
            files=FileLimits(**entry["files"]),
            larger=entry.get("larger"),
        )
        for name, entry in _read("profiles.toml", path).items()
    }
