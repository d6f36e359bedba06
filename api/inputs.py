"""The files that a request brings for its job: names and contents checked before anything is stored."""

import base64
import binascii
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from api.database import Database
from api.problems import FieldError, invalid
from api.request_schemas import FileRequest
from domain.file_statements import FILES_OF_CALLER
from domain.files import MB, FileLimits, clash, wrong_name

_ONE_OF = ["content", "base64", "file"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files that passed: what the job's row says of each, and the contents of the inline ones."""

    given: list[dict[str, Any]]
    inline: bytes

    def row(self) -> dict[str, Any]:
        """Their columns of `jobs`."""
        return {"files": orjson.dumps(self.given).decode(), "inline_files": self.inline}


#: Size and sha256 of uploads, by their ids as text.
Uploads = Mapping[str, tuple[int, str]]


def check_inputs(
    files: list[FileRequest],
    *,
    program: Collection[str],
    limits: FileLimits,
    most_bytes: int,
    known: Uploads,
) -> Inputs:
    """The files of a request. `program` are the names of the program's own files; all of them together may
    have at most `most_bytes`; `known` are those of the uploads that it names which are its caller's.

    Raises:
        Problem: 422, naming the field and the rule.
    """
    if len(files) > limits.inputs:
        raise invalid(FieldError("files", "are too many", f"at most {limits.inputs}"))
    _check_names([file.name for file in files], program)
    contents = [_content(f"files.{index}", file) for index, file in enumerate(files)]
    given: list[dict[str, Any]] = []
    for index, (file, content) in enumerate(zip(files, contents, strict=True)):
        if content is None:
            found = known.get(file.file or "")
            if found is None:
                raise invalid(FieldError(f"files.{index}.file", "is not the id of a file that you uploaded"))
            size, sha256 = found
        else:
            size, sha256 = len(content), hashlib.sha256(content).hexdigest()
        if size > limits.input_mb * MB:
            raise invalid(FieldError(f"files.{index}", "is too large", f"at most {limits.input_mb * MB} bytes"))
        given.append({"name": file.name, "size": size, "sha256": sha256, "file": file.file})
    if sum(entry["size"] for entry in given) > most_bytes:
        raise invalid(
            FieldError(
                "files",
                "are too large together",
                f"at most {most_bytes} bytes in all, and half of the job's memory",
            )
        )
    return Inputs(given, b"".join(content for content in contents if content is not None))


def _check_names(names: list[str], program: Collection[str]) -> None:
    for index, name in enumerate(names):
        if reason := wrong_name(name):
            raise invalid(FieldError(f"files.{index}.name", reason))
    if found := clash(names, program):
        raise invalid(FieldError(f"files.{found[0]}.name", found[1]))


def _content(field: str, file: FileRequest) -> bytes | None:
    """The content of an inline file; None for an uploaded one."""
    if sum(value is not None for value in (file.content, file.base64, file.file)) != 1:
        raise invalid(FieldError(field, "must have exactly one of content, base64 and file", _ONE_OF))
    if file.content is not None:
        return file.content.encode()
    if file.base64 is None:
        return None
    try:
        content = base64.b64decode(file.base64, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    # What decodes to the same bytes from another text is not what the client's encoder made.
    if base64.b64encode(content).decode() != file.base64:
        raise invalid(FieldError(f"{field}.base64", "is not base64", "RFC 4648, section 4, with padding"))
    return content


async def uploads_of(files: Iterable[FileRequest], database: Database, caller_id: UUID) -> Uploads:
    """Those of the named uploads that are the caller's."""
    ids = {file.file for file in files if file.file is not None}
    if not ids:
        return {}
    asked = []
    for text in ids:
        try:
            asked.append(UUID(text))
        except ValueError:
            continue
    rows = await database.all(FILES_OF_CALLER, {"ids": asked, "caller_id": caller_id})
    return {str(row.id): (row.size, bytes(row.sha256).hex()) for row in rows}
