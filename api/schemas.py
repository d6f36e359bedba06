"""What all that goes in and out has in common, as types, and the problem document.

Requests are enforced; answers are the truth that the OpenAPI document tells, and tests hold real answers
against them. Each subject has a module of its own: `request_schemas`, `job_schemas` and so on.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


def no_nul(text: str) -> str:
    """Text without NUL, or the error of a field."""
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not contain NUL characters")
    return text


#: PostgreSQL's text has no NUL, and neither has an argument or a variable of a process.
Text = Annotated[str, AfterValidator(no_nul)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


#: What requests and answers are, for schemas in modules of their own.
Strict = _Strict
Answer = _Answer


class ProblemError(_Answer):
    """One thing wrong with one field."""

    field: str
    message: str
    allowed: str | list[str] | None = None


class ProblemDocument(_Answer):
    """RFC 9457. `type` is stable; docs/api.md lists them."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemError] | None = None
