"""API keys: `python -m api.keys create NAME`, `list`, `revoke ID`.

A key is shown once, when it is made; the database has its hash. Revoking takes effect within two seconds.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, create_engine, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import OperationalError

from domain.addresses import with_password
from domain.ids import hash_api_key, key_hint, new_api_key, new_id
from domain.tables import api_keys, callers

#: Held while `--if-none` looks and creates, so that two starting at once make one key.
_ADVISORY_LOCK = 0x7E7047


def create(connection: Connection, name: str, *, if_none: bool = False) -> str | None:
    """A new key for the caller `name`, who is created if need be.

    With `if_none`, None where any key is valid already.
    """
    if if_none:
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        valid = select(api_keys.c.id).where(api_keys.c.revoked_at.is_(None)).limit(1)
        if connection.execute(valid).first() is not None:
            return None
    connection.execute(
        pg_insert(callers).values(id=new_id(), name=name).on_conflict_do_nothing(index_elements=["name"]),
    )
    caller_id = connection.execute(select(callers.c.id).where(callers.c.name == name)).scalar_one()
    key = new_api_key()
    connection.execute(
        insert(api_keys).values(
            id=new_id(),
            caller_id=caller_id,
            hash=hash_api_key(key),
            hint=key_hint(key),
        ),
    )
    return key


def describe(connection: Connection) -> list[str]:
    """One line for each key: id, hint, caller, since when, state."""
    rows = connection.execute(
        select(api_keys, callers.c.name).join(callers).order_by(api_keys.c.id),
    )
    return [
        "  ".join(
            (
                str(row.id),
                row.hint,
                row.name,
                f"{row.created_at:%Y-%m-%d}",
                "revoked" if row.revoked_at else "valid",
            ),
        )
        for row in rows
    ]


def revoke(connection: Connection, key_id: UUID) -> bool:
    """End a key; False where there is no such valid key."""
    ended = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=func.now()),
    )
    return ended.rowcount == 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m api.keys", description="API keys of this service")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("create", help="make a key and print it, this once")
    make.add_argument("name", help="whom it speaks for")
    make.add_argument("--if-none", action="store_true", help="do nothing where a valid key exists")
    commands.add_parser("list", help="show all keys, without their secret part")
    end = commands.add_parser("revoke", help="end a key")
    end.add_argument("id", type=UUID, help="as `list` shows it")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = _arguments(argv)
    url = os.environ.get("RETORT_DATABASE_URL")
    if not url:
        print("set RETORT_DATABASE_URL to the service's database", file=sys.stderr)
        return 2
    try:
        url = with_password(url, os.environ.get("RETORT_DATABASE_PASSWORD_FILE"))
    except ValueError as error:
        print(f"RETORT_DATABASE_PASSWORD_FILE: {error}", file=sys.stderr)
        return 2
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            code, lines = _run(connection, arguments)
    except OperationalError as error:
        print(f"the database does not answer: {type(error.orig).__name__}", file=sys.stderr)
        return 1
    finally:
        engine.dispose()
    # After the commit: a key that was shown exists.
    for line in lines:
        print(line)
    return code


def _run(connection: Connection, arguments: argparse.Namespace) -> tuple[int, list[str]]:
    match arguments.command:
        case "create":
            key = create(connection, arguments.name, if_none=arguments.if_none)
            return 0, [] if key is None else [key]
        case "list":
            return 0, describe(connection)
        case _:
            found = revoke(connection, arguments.id)
            if not found:
                print("there is no such valid key", file=sys.stderr)
            return (0 if found else 1), []


if __name__ == "__main__":
    sys.exit(main())
