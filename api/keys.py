"""API keys: `python -m api.keys create NAME`, `list`, `rotate ID`, `revoke ID`; and `bind NAME TIER`.

A key is shown once, when it is made; the database has its hash. Revoking takes effect within two
seconds, and so does binding a caller to a tier: then its jobs run on that runtime or not at all.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, create_engine, func, select, update
from sqlalchemy.exc import OperationalError

from domain import accounts
from domain.addresses import with_password
from domain.ids import hash_api_key, key_hint, new_api_key, new_id
from domain.quotas import USUAL_SCOPES, Scope
from domain.states import Runtime
from domain.tables.caller import callers

#: Held while `--if-none` looks and creates, so that two starting at once make one key.
_ADVISORY_LOCK = 0x7E7047

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_SHOWN = 10_000


def secret(key: str) -> dict[str, Any]:
    """What is stored of a key, as parameters of the statements that store it."""
    return {"b_hash": hash_api_key(key), "b_hint": key_hint(key)}


def create(
    connection: Connection,
    name: str,
    *,
    if_none: bool = False,
    scopes: Sequence[Scope] = USUAL_SCOPES,
    expires_s: int | None = None,
) -> str | None:
    """A new key for the caller `name`, who is created if need be.

    With `if_none`, None where any key is valid already.
    """
    if if_none:
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        if connection.execute(accounts.ANY_KEY).first() is not None:
            return None
    caller = {"b_id": new_id(), "b_name": name, "b_quotas": {}, "b_most_running": None}
    connection.execute(accounts.CREATE_CALLER, caller)
    caller_id = connection.execute(accounts.FIND_CALLER, {"b_name": name}).one().id
    key = new_api_key()
    connection.execute(
        accounts.CREATE_KEY,
        {
            "b_id": new_id(),
            "b_caller_id": caller_id,
            "b_scopes": [scope.value for scope in scopes],
            "b_seconds": expires_s,
            **secret(key),
        },
    )
    return key


def rotate(connection: Connection, key_id: UUID, overlap_s: int) -> str | None:
    """A key in place of a valid one, which ends after `overlap_s` seconds; None where there is none."""
    key = new_api_key()
    values = {"b_id": key_id, "b_new_id": new_id(), "b_seconds": overlap_s, **secret(key)}
    made = connection.execute(accounts.ROTATE_KEY, values).first()
    return None if made is None else key


def describe(connection: Connection) -> list[str]:
    """One line for each key: id, hint, caller, since when, state, scopes, end, last use."""
    everything = {"b_below": None, "b_caller_id": None, "b_most": _MOST_SHOWN}
    return [
        "  ".join(
            (
                str(row.id),
                row.hint,
                row.name,
                f"{row.created_at:%Y-%m-%d}",
                row.state,
                ",".join(row.scopes),
                f"until {row.expires_at:%Y-%m-%dT%H:%M}" if row.expires_at else "no end",
                f"used {row.last_used_at:%Y-%m-%dT%H:%M}" if row.last_used_at else "never used",
                *([] if row.runtime is None else [f"bound to {row.runtime}"]),
            ),
        )
        for row in connection.execute(accounts.LIST_KEYS, everything)
    ]


def revoke(connection: Connection, key_id: UUID) -> bool:
    """End a key; False where there is no such key, or it was revoked before."""
    return connection.execute(accounts.REVOKE_KEY, {"b_id": key_id}).first() is not None


def span(given: str) -> int:
    """Seconds, from `90s`, `15m`, `12h` or `30d`.

    Raises:
        ValueError: not such a span.
    """
    found = _SPAN.fullmatch(given)
    if found is None:
        raise ValueError(given)
    return int(found[1]) * _UNIT_S[found[2]]


def bind(connection: Connection, name: str, runtime: Runtime | None) -> bool:
    """Bind a caller to a tier, or (None) to none; False where there is no such caller."""
    changed = connection.execute(
        update(callers)
        .where(callers.c.name == name)
        .values(runtime=None if runtime is None else runtime.value),
    )
    return changed.rowcount == 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m api.keys", description="API keys of this service")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("create", help="make a key and print it, this once")
    make.add_argument("name", help="whom it speaks for")
    make.add_argument("--if-none", action="store_true", help="do nothing where a valid key exists")
    make.add_argument(
        "--scope",
        action="append",
        type=Scope,
        choices=list(Scope),
        help="what it is good for; may be repeated; submit and read unless given",
    )
    make.add_argument("--expires", type=span, metavar="SPAN", help="when it ends: 90s, 15m, 12h, 30d")
    commands.add_parser("list", help="show all keys, without their secret part")
    tier = commands.add_parser("bind", help="let a caller use one runtime only, or any")
    tier.add_argument("name", help="the caller")
    tier.add_argument("runtime", choices=[*(each.value for each in Runtime), "any"])
    turn = commands.add_parser("rotate", help="make a key in place of another, and print it, this once")
    turn.add_argument("id", type=UUID, help="as `list` shows it")
    turn.add_argument("--overlap", type=span, metavar="SPAN", default=0, help="how long the old one stays good")
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
            key = create(
                connection,
                arguments.name,
                if_none=arguments.if_none,
                scopes=arguments.scope or USUAL_SCOPES,
                expires_s=arguments.expires,
            )
            return 0, [] if key is None else [key]
        case "list":
            return 0, describe(connection)
        case "bind":
            runtime = None if arguments.runtime == "any" else Runtime(arguments.runtime)
            if bind(connection, arguments.name, runtime):
                return 0, []
            print("there is no such caller", file=sys.stderr)
            return 1, []
        case "rotate":
            key = rotate(connection, arguments.id, arguments.overlap)
            if key is not None:
                return 0, [key]
        case _:
            if revoke(connection, arguments.id):
                return 0, []
    print("there is no such valid key", file=sys.stderr)
    return 1, []


if __name__ == "__main__":
    sys.exit(main())
