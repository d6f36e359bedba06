"""Artifacts within an answer: small ones, as base64, where the client asks for it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from api.problems import unavailable
from api.queries import whole_number
from domain.files import artifact_key
from storage.store import Missing, Storage, StorageError


def inline_of(query: dict[str, str], most: int) -> int:
    """Bytes of artifacts that a client wants in the answer, from `?inline=N`.

    Raises:
        Problem: 422 with the allowed range.
    """
    return whole_number(query, "inline", 0, 0, most)


async def put_inline(
    artifacts: Sequence[dict[str, Any]], kept: Sequence[Mapping[str, Any]], room: int, storage: Storage
) -> None:
    """Add their contents to the artifacts of a document, in order, as far as they fit in `room` bytes.

    Raises:
        Problem: 503, the storage does not answer.
    """
    for document, row in zip(artifacts, kept, strict=True):
        if row["size"] > room:
            continue
        try:
            pieces = await storage.open_async(artifact_key(UUID(row["id"])))
            content = b"".join([piece async for piece in pieces])
        except Missing:
            continue  # retention was here a moment ago
        except StorageError as e:
            raise unavailable("the storage does not answer; try again, or without inline") from e
        room -= len(content)
        document["base64"] = base64.b64encode(content).decode()
