"""Statements on callers and their keys: for the command line, the API, and each request's key."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Integer,
    LargeBinary,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    extract,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.paging import newest_first
from domain.tables.caller import api_keys, callers

#: Seconds between two notes that a key is in use.
NOTE_USE_S = 60

_alive = and_(
    api_keys.c.revoked_at.is_(None),
    or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()),
)
_unnoted = or_(
    api_keys.c.last_used_at.is_(None),
    api_keys.c.last_used_at < func.now() - text(f"interval '{NOTE_USE_S} seconds'"),
)
#: A moment, `b_seconds` from now; null is never.
IN_SECONDS: ColumnElement[Any] = func.now() + func.make_interval(
    0, 0, 0, 0, 0, 0, cast(bindparam("b_seconds"), Integer)
)

#: hash -> the key and the caller it speaks for, if it is valid; how many seconds it still is (null: for ever),
#: and whether its use should be noted.
AUTHENTICATE: Executable = (
    select(
        api_keys.c.id.label("key_id"),
        api_keys.c.scopes,
        callers.c.id.label("caller_id"),
        callers.c.name,
        callers.c.runtime,
        callers.c.quotas,
        callers.c.most_running,
        extract("epoch", api_keys.c.expires_at - func.now()).label("left_s"),
        _unnoted.label("unnoted"),
    )
    .join(callers)
    .where(api_keys.c.hash == bindparam("hash"), _alive)
)

#: ids: these keys are in use. Written at most once a minute for each.
NOTE_USE: Executable = (
    update(api_keys)
    .where(api_keys.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))), _unnoted)
    .values(last_used_at=func.now())
)

# --- callers ------------------------------------------------------------------------------------------

#: id, name, quotas, most_running -> the caller; nothing where the name is taken.
CREATE_CALLER: Executable = (
    pg_insert(callers)
    .values(
        id=bindparam("b_id", type_=Uuid),
        name=bindparam("b_name", type_=Text),
        quotas=bindparam("b_quotas", type_=JSONB),
        most_running=bindparam("b_most_running", type_=Integer),
    )
    .on_conflict_do_nothing(index_elements=["name"])
    .returning(callers)
)

#: id -> the caller.
GET_CALLER: Executable = select(callers).where(callers.c.id == bindparam("b_id", type_=Uuid))

#: name -> the caller.
FIND_CALLER: Executable = select(callers).where(callers.c.name == bindparam("b_name", type_=Text))

#: id, quotas, most_running -> the caller with these quotas.
SET_QUOTAS: Executable = (
    update(callers)
    .where(callers.c.id == bindparam("b_id", type_=Uuid))
    .values(quotas=bindparam("b_quotas", type_=JSONB), most_running=bindparam("b_most_running", type_=Integer))
    .returning(callers)
)

#: below (an id or null), most -> callers, newest first.
LIST_CALLERS: Executable = newest_first(select(callers), callers.c.id)

# --- keys ---------------------------------------------------------------------------------------------

_state = case(
    (api_keys.c.revoked_at.is_not(None), "revoked"),
    (api_keys.c.expires_at <= func.now(), "expired"),
    else_="valid",
).label("state")
#: What is told of a key.
KEY_COLUMNS: tuple[ColumnElement[Any], ...] = (
    api_keys.c.id,
    api_keys.c.caller_id,
    api_keys.c.hint,
    api_keys.c.scopes,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
    api_keys.c.last_used_at,
    _state,
)

#: id, caller_id, hash, hint, scopes, seconds (until it ends; null: never) -> the key.
CREATE_KEY: Executable = (
    insert(api_keys)
    .values(
        id=bindparam("b_id", type_=Uuid),
        caller_id=bindparam("b_caller_id", type_=Uuid),
        hash=bindparam("b_hash", type_=LargeBinary),
        hint=bindparam("b_hint", type_=Text),
        scopes=bindparam("b_scopes", type_=ARRAY(Text)),
        expires_at=IN_SECONDS,
    )
    .returning(*KEY_COLUMNS)
)

#: below (a key's id or null), caller_id (or null: of all), most -> keys and their callers' names, newest first.
LIST_KEYS: Executable = newest_first(
    select(*KEY_COLUMNS, callers.c.name, callers.c.runtime)
    .join(callers)
    .where(
        or_(
            cast(bindparam("b_caller_id"), Uuid).is_(None),
            api_keys.c.caller_id == cast(bindparam("b_caller_id"), Uuid),
        ),
    ),
    api_keys.c.id,
)

#: id -> the key with its caller's name.
GET_KEY: Executable = (
    select(*KEY_COLUMNS, callers.c.name).join(callers).where(api_keys.c.id == bindparam("b_id", type_=Uuid))
)

#: id -> the key, if it was not revoked before.
REVOKE_KEY: Executable = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("b_id", type_=Uuid), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=func.now())
    .returning(*KEY_COLUMNS)
)

#: Whether any key is valid.
ANY_KEY: Executable = select(api_keys.c.id).where(_alive).limit(1)


def _rotate() -> Executable:
    ending = (
        update(api_keys)
        .where(api_keys.c.id == bindparam("b_id", type_=Uuid), _alive)
        # Never later than it would have ended anyway: LEAST passes over nulls.
        .values(expires_at=func.least(api_keys.c.expires_at, IN_SECONDS))
        .returning(api_keys.c.id)
        .cte("ending")
    )
    # The old row as it was: a statement does not see what it changes itself.
    lifetime = api_keys.c.expires_at - api_keys.c.created_at
    followed = select(
        cast(bindparam("b_new_id"), Uuid),
        api_keys.c.caller_id,
        cast(bindparam("b_hash"), LargeBinary),
        cast(bindparam("b_hint"), Text),
        api_keys.c.scopes,
        func.now() + lifetime,
    ).join(ending, ending.c.id == api_keys.c.id)
    names = ["id", "caller_id", "hash", "hint", "scopes", "expires_at"]
    return insert(api_keys).from_select(names, followed).returning(*KEY_COLUMNS)


#: id, seconds (for which the old key stays good), new_id, hash, hint -> a key in place of a valid one: of the
#: same caller, with the same scopes, and for as long as the old one was made for.
ROTATE_KEY: Executable = _rotate()
