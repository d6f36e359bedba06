"""Our own styles and scripts, read once. Their addresses change with their content, so browsers keep them."""

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from api.pages.highlight import stylesheet
from api.problems import Kind, Problem

router = APIRouter(include_in_schema=False)

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOLDER = files("api.pages") / "static"


_NAMES = ("pages.css", "pages.js", "htmx.min.js", "icon.svg")


def _read() -> dict[str, bytes]:
    found = {name: (_FOLDER / name).read_bytes() for name in _NAMES}
    found["pages.css"] += stylesheet().encode()
    return found


_FILES: Final = _read()
_MARKS: Final = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in _FILES.items()}


def path_of(name: str) -> str:
    """Where one of our files is."""
    return f"/static/{_MARKS[name]}/{name}"


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """The icon, where browsers look for it when an answer names none."""
    return Response(
        _FILES["icon.svg"], headers={"Content-Type": _TYPES["svg"], "Cache-Control": "max-age=86400"}
    )


@router.get("/static/{mark}/{name}")
async def fetch(request: Request, mark: str, name: str) -> Response:
    """Gives one of our files."""
    if _MARKS.get(name) != mark:
        raise Problem(Kind.NOT_FOUND, "there is no such file")
    kind = _TYPES[name.rpartition(".")[2]]
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": kind}
    return Response(_FILES[name], headers=headers)
