"""From arguments of a call to the body of a job request."""

import base64
from collections.abc import Iterable, Mapping
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict

from retort.client.offers import File

#: Files for a job: paths, which keep their names, or contents by name (text, bytes, a path, an uploaded file).
Files = Iterable[str | PathLike[str]] | Mapping[str, "str | bytes | PathLike[str] | File"]

#: Files as a request has them.
InlineFiles = list[dict[str, str]]

#: Together inline files stay well within a request's body; what is larger is uploaded first.
MOST_INLINE = 1024 * 1024
#: Smaller ones are never worth a request of their own.
ALWAYS_INLINE = 16 * 1024

LANGUAGES = {
    ".py": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".sh": "bash",
    ".bash": "bash", ".r": "r", ".rs": "rust",
}  # fmt: skip


class Limits(TypedDict, total=False):
    """Limits of a job, each within its profile's range."""

    timeout_s: int
    cpu_s: int
    memory_mb: int
    cpus: float
    output_bytes: int
    compile_s: int


class Options(TypedDict, total=False):
    """What any job may be given beside its code or task: docs/api.md. `extra` is sent as it is."""

    language: str
    profile: str
    limits: Limits | None
    stdin: str
    args: Iterable[str]
    env: Mapping[str, str]
    files: Files | None
    labels: Mapping[str, str]
    reuse: Literal["never", "caller"]
    runtime: str | None
    priority: Literal["interactive", "batch"]
    cache: bool
    extra: Mapping[str, Any]


class TaskOptions(Options, total=False):
    """What tasks may be given as well: docs/tasks.md.

    `check` is test code, the path of a file with it, or the object of the API; `expect` what must be printed.
    """

    model: str | None
    route: Literal["cost", "speed", "accuracy"] | None
    required_accuracy: float | None
    fallbacks: Iterable[str] | None
    max_attempts: int | None
    budget_usd: Decimal | float | str | None
    check: str | PathLike[str] | Mapping[str, str] | None
    expect: str | None
    preset: str | None
    temperature: float | None
    max_tokens: int | None
    larger_profile: bool


def body_of(options: Mapping[str, Any], source: Mapping[str, Any], *, cache: bool = False) -> dict[str, Any]:
    """The body of a request, but for its files.

    Raises:
        ValueError: what was given contradicts itself.
    """
    given = {name: value for name, value in options.items() if value is not None}
    extra = given.pop("extra", {})
    given.pop("files", None)
    check, expect = given.pop("check", None), given.pop("expect", None)
    if check is not None and expect is not None:
        raise ValueError("give check or expect, not both")
    if expect is not None:
        given["check"] = {"stdout": expect}
    elif check is not None:
        given["check"] = _check(check)
    if isinstance(given.get("budget_usd"), Decimal):
        given["budget_usd"] = str(given["budget_usd"])
    for name in ("args", "fallbacks"):
        if name in given:
            given[name] = list(given[name])
    for name in ("env", "labels", "limits"):
        if name in given:
            given[name] = {key: value for key, value in given[name].items() if value is not None}
    if cache:
        given.setdefault("cache", True)
    return {**source, **given, **extra}


def _check(check: str | PathLike[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(check, Mapping):
        return dict(check)
    return {"tests": check if isinstance(check, str) else Path(check).read_text(encoding="utf-8")}


def code_of(code: str | PathLike[str]) -> dict[str, str]:
    """Code, or a path to it, whose name tells the language."""
    if isinstance(code, str):
        return {"code": code}
    path = Path(code)
    language = LANGUAGES.get(path.suffix.lower())
    found = {"code": path.read_text(encoding="utf-8")}
    return found if language is None else {**found, "language": language}


def sources_of(files: Files) -> dict[str, str | bytes | Path | File]:
    """Files by the names they shall have in the work folder.

    Raises:
        ValueError: two have the same name.
        OSError: one cannot be read.
    """
    if isinstance(files, str | bytes | PathLike):
        raise TypeError("files is a list of paths, or contents by name")
    if isinstance(files, Mapping):
        return {
            name: Path(source) if isinstance(source, PathLike) else source for name, source in files.items()
        }
    found: dict[str, str | bytes | Path | File] = {}
    for each in files:
        path = Path(each)
        if path.name in found:
            raise ValueError(f"two files are named {path.name}; give them as a mapping from names")
        found[path.name] = path
    return found


def size_of(source: str | bytes | Path | File) -> int:
    """How large it is, in bytes, were it in the request."""
    match source:
        case File():
            return 0
        case Path():
            return source.stat().st_size
    return len(source)


def to_upload(sources: Mapping[str, str | bytes | Path | File]) -> list[str]:
    """The files that are too large to be in the request; the largest are uploaded first."""
    sizes = {name: size_of(source) for name, source in sources.items()}
    total = sum(sizes.values())
    found = []
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if total <= MOST_INLINE or sizes[name] <= ALWAYS_INLINE:
            break
        found.append(name)
        total -= sizes[name]
    return found


def inline(name: str, source: str | bytes | Path | File) -> dict[str, str]:
    """A file as the request has it."""
    match source:
        case File():
            return {"name": name, "file": source.id}
        case str():
            return {"name": name, "content": source}
        case Path():
            source = source.read_bytes()
    return {"name": name, "base64": base64.b64encode(source).decode()}
