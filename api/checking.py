"""Bodies held against their types, for all but jobs: those have an intake of their own."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.problems import FieldError, invalid

M = TypeVar("M", bound=BaseModel)
_MOST_ERRORS = 20


def checked(model: type[M], body: dict[str, Any]) -> M:
    """The body as a value of its type.

    Raises:
        Problem: 422 with every field that is wrong.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:_MOST_ERRORS]
        raise invalid(*(_field_error(each, model) for each in found)) from None


def _field_error(found: Any, model: type[BaseModel]) -> FieldError:
    where = [str(part)[:64] for part in found["loc"] if part != "[key]"]
    name = ".".join(where) or "body"
    if found["type"] == "extra_forbidden":
        allowed = list(model.model_fields) if len(where) == 1 else None
        return FieldError(name, "is not a known field", allowed)
    said = found["msg"]
    return FieldError(name, said[:1].lower() + said[1:])
