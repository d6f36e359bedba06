"""The model gateways that this worker may call, from the environment or a file. Keys are never shown.

Several gateways: `RETORT_GATEWAYS` names a TOML file of the shape that docs/models.md shows.
One gateway: `RETORT_GATEWAY_URL`, `RETORT_GATEWAY_KEY` or `RETORT_GATEWAY_KEY_FILE`, and what else
`GatewaySettings` lists. None: tasks are refused, code still runs.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from yarl import URL

from domain.catalogue import DROPPABLE, Bucket, Catalogue, Model
from domain.prices import PriceTable, parse_table
from worker.model import keys
from worker.model.keys import GatewayError, Key, KeyFile, KeyShape

DIALECTS = ("openai", "anthropic")

#: A gateway's name is part of names in Redis, of log lines and of answers.
MOST_NAME = 40


class GatewaySettings(BaseSettings):
    """What a worker can be told of gateways. Every field is an environment variable with the prefix RETORT_."""

    model_config = SettingsConfigDict(env_prefix="RETORT_", extra="ignore", frozen=True)

    catalogue: Path | None = Field(default=None, description="File with models that replaces ours.")
    gateways: Path | None = Field(default=None, description="File that lists the gateways.")
    gateway_url: str | None = Field(default=None, description="Base URL of the only gateway, with its /v1.")
    gateway_dialect: Literal["openai", "anthropic"] = Field(
        default="openai", description="What it speaks: `openai` or `anthropic`."
    )
    gateway_key: SecretStr | None = Field(default=None, description="Its key.")
    gateway_key_file: Path | None = Field(default=None, description="Or a file with the key alone.")
    gateway_key_prefix: str = Field(default="", description="How a right key begins.")
    gateway_key_length: int = Field(
        default=20, ge=0, description="Characters that a right key has at least; 0: no key."
    )
    gateway_models: str = Field(
        default="",
        description="Models that it serves, separated by commas; `name=wire` where it calls one otherwise.",
    )


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a call may take: to connect, until the first byte, between bytes, in all."""

    connect_s: float = 5.0
    first_byte_s: float = 90.0
    idle_s: float = 60.0
    total_s: float = 180.0


@dataclass(frozen=True, slots=True)
class Served:
    """One model at one gateway: what it is called there, and the request fields left out for it."""

    model: str
    wire: str
    drops: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Gateway:
    """One base URL with a key, a dialect, the models that it serves and its prices.

    `temperature_range` is what may be asked for, both ends allowed; None asks for anything. `limits` hold for
    all its calls together, `model_limits` stand in for the catalogue's.
    """

    name: str
    url: str
    dialect: str
    key: Key | KeyFile | None
    models: Mapping[str, Served]  # by the catalogue's names
    prices: PriceTable | None = None
    deadlines: Deadlines = Deadlines()
    most_bytes: int = 8 * 2**20  # of one answer
    temperature_range: tuple[float, float] | None = (0.0, 1.0)
    stream: bool = True  # tells at once whether anybody works on it, and whether it was cut off
    max_tokens_field: str = "max_tokens"
    limits: Bucket | None = None
    model_limits: Mapping[str, Bucket] = field(default_factory=dict)

    def buckets_for(self, model: Model) -> tuple[Bucket, ...]:
        """The limits that a call must fit, all of them; their names are unique among gateways."""
        own = self.model_limits.get(model.name)
        each = model.buckets if own is None else (own,)
        every = each if self.limits is None else (self.limits, *each)
        return tuple(replace(bucket, name=f"{self.name}/{bucket.name}") for bucket in every)


@dataclass(frozen=True, slots=True)
class Gateways:
    """All gateways, in the order in which they are tried, and the catalogue with every model they serve."""

    catalogue: Catalogue
    all: tuple[Gateway, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.all)

    def serving(self, model: str) -> tuple[Gateway, ...]:
        """The gateways that serve a model, by its name or alias; the first is preferred."""
        card = self.catalogue.find(model)
        return () if card is None else tuple(each for each in self.all if card.name in each.models)

    def facts(self) -> list[dict[str, Any]]:
        """What may be told to anybody: no keys, no addresses. `prices` are those that differ from the list."""
        return [
            {
                "name": each.name,
                "dialect": each.dialect,
                "models": sorted(each.models),
                "prices": {
                    name: price.as_dict()
                    for name, price in (each.prices.prices if each.prices else {}).items()
                    if name in each.models
                },
            }
            for each in self.all
        ]


def load_gateways(
    settings: GatewaySettings,
    catalogue: Catalogue,
    environ: Mapping[str, str] | None = None,
) -> Gateways:
    """The gateways that the settings name; keys come from `environ` (default: ours) or from files.

    Raises:
        GatewayError: a setting is wrong; names it and says what to set, and shows nothing of a key.
    """
    environ = os.environ if environ is None else environ
    if settings.gateways is not None and settings.gateway_url is not None:
        raise GatewayError("RETORT_GATEWAYS and RETORT_GATEWAY_URL are both set; keep one")
    if settings.gateways is not None:
        entries = _read(settings.gateways)
    elif settings.gateway_url is not None:
        entries = {"default": _single(settings)}
    else:
        if settings.gateway_key is not None or settings.gateway_key_file is not None:
            raise GatewayError("there is a key but no RETORT_GATEWAY_URL; set it to the gateway's base URL")
        return Gateways(catalogue)
    wanted = [name for entry in entries.values() for name in _model_names(entry)]
    catalogue = catalogue.extended(wanted)
    single = keys.of_settings(settings.gateway_key, settings.gateway_key_file)
    return Gateways(
        catalogue,
        tuple(_gateway(name, entry, catalogue, environ, single) for name, entry in entries.items()),
    )


def _single(settings: GatewaySettings) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "url": settings.gateway_url,
        "dialect": settings.gateway_dialect,
        "key_prefix": settings.gateway_key_prefix,
        "key_length": settings.gateway_key_length,
    }
    pairs = [pair.strip().partition("=") for pair in settings.gateway_models.split(",") if pair.strip()]
    if pairs:
        entry["models"] = {name.strip(): wire.strip() or {} for name, _, wire in pairs}
    return entry


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise GatewayError(f"RETORT_GATEWAYS: {path} cannot be read: {error}") from None
    entries = data.get("gateways")
    if set(data) != {"gateways"} or not isinstance(entries, dict) or not entries:
        raise GatewayError(f"RETORT_GATEWAYS: {path} must hold tables [gateways.NAME] and nothing else")
    return entries


FIELDS = {
    "url", "dialect", "key_env", "key_file", "key_prefix", "key_length", "models", "price_table", "prices",
    "currency", "usd_per_unit", "deadlines", "most_bytes", "temperature_range", "stream", "limits",
    "model_limits", "max_tokens_field",
}  # fmt: skip


def _model_names(entry: Mapping[str, Any]) -> list[str]:
    models = entry.get("models", ())
    return [str(name) for name in models] if isinstance(models, list | dict) else []


def _gateway(
    name: str,
    entry: Mapping[str, Any],
    catalogue: Catalogue,
    environ: Mapping[str, str],
    single: "keys.Source | None",
) -> Gateway:
    where = f"gateways.{name}"
    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > MOST_NAME:
        raise GatewayError(f"{where}: a name has letters, digits, - and _, at most {MOST_NAME}")
    if "key" in entry or "api_key" in entry:
        raise GatewayError(
            f"{where}: a key does not belong here; name a variable with key_env or a file with key_file",
        )
    if unknown := sorted(set(entry) - FIELDS):
        raise GatewayError(f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(FIELDS))}")
    dialect = _one_of(entry, "dialect", DIALECTS, where)
    shape = KeyShape(
        prefix=str(entry.get("key_prefix", "")),
        least=_whole(entry.get("key_length", 20), f"{where}.key_length", 0),
    )
    source = single or keys.Source(env=entry.get("key_env"), file=entry.get("key_file"))
    return Gateway(
        name=name,
        url=_url(entry.get("url"), where),
        dialect=dialect,
        key=keys.held(source, shape, where, environ),
        models=_models(entry.get("models"), dialect, catalogue, where),
        prices=_prices(name, entry, catalogue, where),
        deadlines=_deadlines(entry.get("deadlines", {}), where),
        most_bytes=_whole(entry.get("most_bytes", 8 * 2**20), f"{where}.most_bytes", 1024),
        temperature_range=_range(entry.get("temperature_range", [0, 1]), where),
        stream=_flag(entry.get("stream", True), f"{where}.stream"),
        max_tokens_field=_one_of(entry, "max_tokens_field", ("max_tokens", "max_completion_tokens"), where),
        limits=None if "limits" not in entry else _bucket("gateway", entry["limits"], f"{where}.limits"),
        model_limits={
            _name(model, catalogue, f"{where}.model_limits"): _bucket(
                f"model:{_name(model, catalogue, where)}",
                limits,
                f"{where}.model_limits.{model}",
            )
            for model, limits in entry.get("model_limits", {}).items()
        },
    )


def _url(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise GatewayError(f"{where}.url is missing: the gateway's base URL, as https://gateway.example/v1")
    try:
        url = URL(value)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise GatewayError(f"{where}.url must begin with https:// or http:// and name a host")
    if url.user or url.password or url.query_string or url.fragment:
        raise GatewayError(
            f"{where}.url must hold no user, password, query or fragment; the key has its own place"
        )
    return str(url).rstrip("/")


def _name(model: str, catalogue: Catalogue, where: str) -> str:
    card = catalogue.find(model)
    if card is None:
        raise GatewayError(f"{where}: {model!r} is neither in the catalogue nor among the gateway's models")
    return card.name


def _models(entry: object, dialect: str, catalogue: Catalogue, where: str) -> dict[str, Served]:
    if entry is None:
        # What speaks `anthropic` serves that vendor's models; what speaks `openai` may have all.
        wires: dict[str, Any] = {
            model.name: model.name
            for model in catalogue.models.values()
            if model.listed and (dialect == "openai" or model.dialect == dialect)
        }
    elif isinstance(entry, list):
        wires = {str(name): _name(str(name), catalogue, f"{where}.models") for name in entry}
    elif isinstance(entry, dict):
        wires = entry
    else:
        raise GatewayError(
            f"{where}.models must be a list of names or a table from names to the gateway's names"
        )
    served: dict[str, Served] = {}
    for given, how in wires.items():
        card = catalogue.get(_name(given, catalogue, f"{where}.models"))
        told = how if isinstance(how, dict) else {"wire": how}
        drops = frozenset(told.get("drops", card.drops))
        wire = told.get("wire", card.name)
        if set(told) - {"wire", "drops"} or not isinstance(wire, str) or not wire or drops - DROPPABLE:
            raise GatewayError(
                f"{where}.models.{given} must be the gateway's name of it, or a table with `wire` and `drops` "
                f"(any of {', '.join(sorted(DROPPABLE))})",
            )
        served[card.name] = Served(card.name, wire, drops)
    if not served:
        raise GatewayError(f"{where}.models is empty")
    return served


def _prices(name: str, entry: Mapping[str, Any], catalogue: Catalogue, where: str) -> PriceTable | None:
    table = None
    if "price_table" in entry:
        table = catalogue.tables.get(str(entry["price_table"]))
        if table is None:
            known = ", ".join(sorted(catalogue.tables)) or "none"
            raise GatewayError(f"{where}.price_table: the catalogue's tables are {known}")
    if "prices" not in entry:
        return table
    about = {key: entry[key] for key in ("currency", "usd_per_unit", "prices") if key in entry}
    try:
        own = parse_table(name, {"title": f"settings of the gateway {name}", **about}, where)
    except ValueError as error:
        raise GatewayError(str(error)) from None
    named = {_name(model, catalogue, f"{where}.prices"): price for model, price in own.prices.items()}
    return replace(own, prices={**(table.prices if table else {}), **named})


def _deadlines(entry: object, where: str) -> Deadlines:
    names = {each.name for each in fields(Deadlines)}
    if not isinstance(entry, dict) or set(entry) - names:
        raise GatewayError(f"{where}.deadlines may have {', '.join(sorted(names))}, in seconds")
    for name, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 < value <= 3600:
            raise GatewayError(f"{where}.deadlines.{name} must be a number of seconds above 0, at most 3600")
    return Deadlines(**{name: float(value) for name, value in entry.items()})


def _range(value: object, where: str) -> tuple[float, float] | None:
    if value is False:  # TOML has no null
        return None
    if isinstance(value, list) and len(value) == 2:
        numbers = [float(each) for each in value if isinstance(each, int | float | Decimal)]
        if len(numbers) == 2 and 0 <= numbers[0] <= numbers[1]:
            return numbers[0], numbers[1]
    raise GatewayError(
        f"{where}.temperature_range must be two numbers, as [0, 1], or false for any temperature"
    )


def _bucket(name: str, entry: object, where: str) -> Bucket:
    if not isinstance(entry, dict) or set(entry) - {"rpm", "tpm", "burst"}:
        raise GatewayError(f"{where} may have rpm, tpm and burst")
    return Bucket(name, **{key: _whole(value, f"{where}.{key}", 1) for key, value in entry.items()})


def _whole(value: object, where: str, least: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise GatewayError(f"{where} must be a whole number, at least {least}")


def _one_of(entry: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    value = entry.get(key, allowed[0])
    if value not in allowed:
        raise GatewayError(f"{where}.{key} must be {' or '.join(allowed)}")
    return str(value)


def _flag(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise GatewayError(f"{where} must be true or false")
