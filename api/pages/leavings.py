"""What an attempt left, made ready to be looked at: pictures, tables and texts as such, the rest as files."""

import csv
import io
from typing import Any
from urllib.parse import quote
from uuid import UUID

from api.auth import Caller
from api.documents import Document
from api.pages.highlight import coloured
from api.services import Services
from api.statements import GET_ARTIFACT
from domain.files import artifact_key
from storage.store import StorageError

#: Kinds of pictures that browsers show as pictures alone. SVG is one: in an image nothing of it is run.
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/svg+xml"})
_TABLES = {"text/csv": ",", "text/tab-separated-values": "\t"}
#: Kinds that are text to be read, and the language that colours them.
_TEXTS = {
    "text/plain": "text",
    "text/markdown": "markdown",
    "text/html": "html",
    "text/x-python": "python",
    "application/json": "json",
    "application/jsonl": "text",
    "application/toml": "toml",
    "application/yaml": "yaml",
}
_MOST_READ = 64 * 1024
_MOST_ROWS, _MOST_COLUMNS = 50, 20
#: Files of which a page shows more than the name, in one attempt.
_MOST_SHOWN = 12


async def shown_leavings(services: Services, caller: Caller, job_id: UUID, attempt: Document) -> Document:
    """An attempt's artifacts with how each is to be shown, what was left out, and its results."""
    files: list[dict[str, Any]] = []
    for artifact in attempt["artifacts"]:
        path = f"/runs/{job_id}/artifacts/{quote(artifact['name'])}?attempt={attempt['number']}"
        shown: dict[str, Any] = {"kind": "file"}
        if len(files) < _MOST_SHOWN:
            shown = await _shown(services, caller, job_id, attempt["number"], artifact)
        files.append({**artifact, "path": path, **shown})
    return {
        "files": files,
        "left_out": attempt["left_out"],
        "left_out_more": attempt["left_out_more"],
        "results": [each for each in attempt["results"] if each["type"] != "image"],
    }


async def _shown(
    services: Services, caller: Caller, job_id: UUID, number: int, artifact: Document
) -> dict[str, Any]:
    kind = artifact["media_type"]
    if kind in PICTURES:
        return {"kind": "picture"}
    if kind not in _TABLES and kind not in _TEXTS:
        return {"kind": "file"}
    text = await _text(services, caller, job_id, number, artifact)
    if text is None:
        return {"kind": "file"}
    cut = artifact["size"] > _MOST_READ
    if kind in _TABLES:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=_TABLES[kind])
            rows = [row[:_MOST_COLUMNS] for row, _ in zip(reader, range(_MOST_ROWS + 1), strict=False)]
        except csv.Error:
            return {"kind": "text", "text": text, "cut": cut}
        return {"kind": "table", "head": rows[0] if rows else [], "rows": rows[1:]}
    return {"kind": "text", "text": coloured(text, _TEXTS[kind]), "cut": cut}


async def _text(
    services: Services, caller: Caller, job_id: UUID, number: int, artifact: Document
) -> str | None:
    """The beginning of an artifact; None where it is gone or our storage does not answer."""
    values = {"id": job_id, "caller_id": caller.id, "number": number, "name": artifact["name"]}
    row = await services.database.one(GET_ARTIFACT, values)
    if row is None:
        return None
    if not row.size:
        return ""
    try:
        pieces = await services.storage.open_async(artifact_key(row.id), 0, min(row.size, _MOST_READ))
        content = b"".join([piece async for piece in pieces])
    except StorageError:
        return None
    return content.decode("utf-8", "replace").replace("\0", "\ufffd")
