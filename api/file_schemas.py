"""Files that go in, and what programs leave, as answers carry them."""

from datetime import datetime
from uuid import UUID

from api.schemas import Answer
from domain.files import LeftOut
from domain.results import Result


class Input(Answer):
    """A file that the request brought; `file` is the id of an uploaded one."""

    name: str
    size: int
    sha256: str
    file: UUID | None


class ArtifactLinks(Answer):
    """Where an artifact can be fetched."""

    self: str


class Artifact(Answer):
    """A file that the program left. `base64` is its content where `inline` asked for it, else null."""

    name: str
    size: int
    media_type: str
    sha256: str
    base64: str | None
    links: ArtifactLinks


class LeftOutFile(Answer):
    """Something in the work folder that did not become an artifact."""

    name: str
    reason: LeftOut


class Leavings(Answer):
    """What a program left. `left_out_more` counts what was left out and is not in `left_out`."""

    artifacts: list[Artifact]
    left_out: list[LeftOutFile]
    left_out_more: int
    results: list[Result]


class ArtifactList(Leavings):
    """What an attempt left."""

    attempt: int


class File(Answer):
    """An uploaded file."""

    id: UUID
    name: str
    size: int
    sha256: str
    created_at: datetime
    links: ArtifactLinks
