"""Values as the database can hold them: what programs, models and people said may be anything."""

import json
from typing import Any


def column(value: Any) -> Any:
    """A value for a column; a list or an object as JSON."""
    return json_text(value) if isinstance(value, dict | list) else storable(value)


def json_text(value: Any) -> str:
    """A value for a JSON column, which holds no NUL and no half of a surrogate pair."""
    return json.dumps(storable(value), ensure_ascii=False)


def storable(value: Any) -> Any:
    """Text as the database can hold it, also within lists and objects: what others said may be anything."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return value
