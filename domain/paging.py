"""Pages of a list by keyset: rows below an id, newest first, as ids are UUIDv7."""

from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Uuid, bindparam, cast, or_


def newest_first(found: Select[Any], by: ColumnElement[Any]) -> Select[Any]:
    """The same rows in pages. Two more parameters: `b_below` (an id; null: the first page) and `b_most`."""
    below = cast(bindparam("b_below"), Uuid)
    return (
        found.where(or_(below.is_(None), by < below))
        .order_by(by.desc())
        .limit(bindparam("b_most", type_=Integer))
    )
