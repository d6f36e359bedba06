"""`retort keys`: API keys of a service, for whoever has one with the scope `admin`."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from retort.cli.common import AsJson, print_json, service, table

if TYPE_CHECKING:
    from retort.client import Retort
    from retort.client.offers import Caller, Key

KeyId = Annotated[str, typer.Argument(metavar="ID", help="A key's id.", show_default=False)]
Name = Annotated[str, typer.Argument(help="A caller; made if there is none of this name.", show_default=False)]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="submit, read or admin; repeat it. [default: submit, read]")
]
Expires = Annotated[str | None, typer.Option("--expires", help="As in 12h or 30d; without it, never.")]
Overlap = Annotated[str, typer.Option("--overlap", help="For so long both are good, as in 1d.")]

keys = typer.Typer(
    help="List API keys; `create`, `rotate` and `revoke` them. Needs a key with the scope admin.",
    invoke_without_command=True,
    add_completion=False,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(keys, name="keys")


@keys.callback()
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """List API keys, newest first. What a key is, is shown when it is made and never again."""
    if context.invoked_subcommand is not None:
        return
    with service() as client:
        names = {caller.id: caller.name for caller in client.callers()}
        found = list(client.keys())
    if as_json:
        print_json({"keys": [key.document for key in found]})
        return
    columns = ("id", "caller", "hint", "scopes", "state", "expires", "last used")
    table(
        columns,
        [
            (
                key.id,
                names.get(key.caller_id, key.caller_id),
                key.hint,
                " ".join(key.scopes),
                key.state,
                key.expires_at,
                key.last_used_at,
            )
            for key in found
        ],
    )


@keys.command()
def create(name: Name, scopes: Scopes = None, expires: Expires = None, as_json: AsJson = False) -> None:
    """Make a key and print it, this once."""
    seconds = None if expires is None else _seconds(expires, "--expires")
    with service() as client:
        made = client.create_key(
            _caller(client, name), scopes=scopes or ("submit", "read"), expires_in_s=seconds
        )
    _print(made, as_json=as_json)


@keys.command()
def rotate(key_id: KeyId, overlap: Overlap = "0s", as_json: AsJson = False) -> None:
    """Make a key in the place of another and print it, this once."""
    seconds = _seconds(overlap, "--overlap")
    with service() as client:
        made = client.rotate_key(key_id, overlap_s=seconds)
    _print(made, as_json=as_json)


@keys.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """End a key; within two seconds it is refused everywhere."""
    with service() as client:
        client.revoke_key(key_id)
    print_json({"id": key_id, "state": "revoked"}) if as_json else typer.echo(f"{key_id} revoked")


def _print(made: "Key", *, as_json: bool) -> None:
    if as_json:
        print_json(made.document)
        return
    typer.echo(made.key)
    typer.echo(f"retort: key {made.id}; it is shown only now", err=True)


def _caller(client: "Retort", name: str) -> "Caller":
    for caller in client.callers():
        if name in (caller.name, caller.id):
            return caller
    return client.create_caller(name)


def _seconds(text: str, option: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time as in 90s, 30m, 12h or 30d", param_hint=option)
    return int(found[1]) * _UNITS[found[2]]
