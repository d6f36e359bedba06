"""`Idempotency-Key`: the same request of the same caller makes one thing, however often it is sent.

The key is stored by the same statement as what it made, so there is never one without the other. Of concurrent
requests with one key the database lets one insert; the others wait for it, and find what it made.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from starlette.requests import Request

from api.problems import FieldError, Kind, Problem, invalid
from domain.tables.caller import idempotency_keys

HEADER = "idempotency-key"
REPLAYED = "Idempotency-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Once:
    """A caller's key, and what of the request must be the same when it is sent again."""

    key: str
    fingerprint: bytes

    def parameters(self, caller_id: UUID, hours: int) -> dict[str, Any]:
        """Its parameters of a statement that inserts something once."""
        return {
            "o_caller_id": caller_id,
            "o_key": self.key,
            "o_fingerprint": self.fingerprint,
            "o_hours": hours,
        }


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a key made before."""

    made: UUID
    fingerprint: bytes

    def check(self, once: Once) -> UUID:
        """The id of what it made.

        Raises:
            Problem: 422, that was another request.
        """
        if self.fingerprint != once.fingerprint:
            raise Problem(
                Kind.IDEMPOTENCY_KEY_REUSED,
                "this Idempotency-Key was sent before with another request; nothing was stored",
                errors=[FieldError("Idempotency-Key", "was used for another request", "a new key")],
            )
        return self.made


def once_of(request: Request, body: Mapping[str, Any]) -> Once | None:
    """The key that a request carries, if any.

    Raises:
        Problem: 422, it is not one.
    """
    key = key_of(request)
    if key is None:
        return None
    what = fingerprint_of(request)
    what.update(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
    return Once(key, what.digest())


def key_of(request: Request) -> str | None:
    """The key alone.

    Raises:
        Problem: 422, it is not one.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) != 1 or not _KEY.fullmatch(given[0]):
        raise invalid(FieldError("Idempotency-Key", "is not a key", "1 to 255 visible ASCII characters"))
    return given[0]


def fingerprint_of(request: Request) -> "hashlib._Hash":
    """The beginning of a fingerprint; what the body says is still to be added."""
    return hashlib.sha256(f"{request.method} {request.scope['path']}\n".encode())


@lru_cache(maxsize=64)
def insert_columns_once(table: Table, names: tuple[str, ...], back: tuple[str, ...]) -> Executable:
    """Inserts a row of these columns once; its parameters are their names with `b_` before them."""
    values = {name: cast(bindparam(f"b_{name}"), table.c[name].type) for name in names}
    return insert_once(table, values, tuple(table.c[name] for name in back))


def insert_once(
    table: Table, values: Mapping[str, ColumnElement[Any]], back: tuple[ColumnElement[Any], ...]
) -> Executable:
    """Inserts a row, unless the key has made one: then it gives nothing.

    Parameters, beside those of the values: `o_key`, `o_fingerprint`, `o_caller_id`, `o_hours`, and the row's id
    as `b_id`.
    """
    taken = pg_insert(idempotency_keys).values(
        caller_id=bindparam("o_caller_id", type_=Uuid),
        key=bindparam("o_key", type_=Text),
        fingerprint=bindparam("o_fingerprint", type_=LargeBinary),
        made=bindparam("b_id", type_=Uuid),
    )
    ours = taken.on_conflict_do_update(
        index_elements=["caller_id", "key"],
        set_={
            "fingerprint": taken.excluded.fingerprint,
            "made": taken.excluded.made,
            "created_at": func.now(),
        },
        # Only what has expired; as good as not there.
        where=idempotency_keys.c.created_at
        < func.now() - func.make_interval(0, 0, 0, 0, cast(bindparam("o_hours"), Integer)),
    ).returning(idempotency_keys.c.made)
    won = ours.cte("won")
    # Labelled, because the select does not know the columns it fills.
    row = [value.label(f"v_{name}") for name, value in values.items()]
    return insert(table).from_select(list(values), select(*row).select_from(won)).returning(*back)


#: caller_id, key -> what it made.
EARLIER: Executable = select(idempotency_keys.c.made, idempotency_keys.c.fingerprint).where(
    and_(
        idempotency_keys.c.caller_id == bindparam("o_caller_id", type_=Uuid),
        idempotency_keys.c.key == bindparam("o_key", type_=Text),
    ),
)
