"""The catalogue of models: names, prices, limits, roles, presets. Pure; data/catalogue.toml holds the facts.

>>> catalogue = load_catalogue()
>>> catalogue.get("sonnet-4").name
'claude-sonnet-4-20250514'
>>> catalogue.get("hiaku-4")
Traceback (most recent call last):
    ...
domain.catalogue.UnknownModel: no model is called 'hiaku-4'; did you mean haiku-4 or haiku-4-5?
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from domain.prices import Cost, Price, PriceTable, TokenCounts, parse_price, parse_table

#: Request fields that a model may refuse, and that are then left out.
DROPPABLE = frozenset({"temperature", "top_p", "stop"})
CAPABILITIES = frozenset({"vision", "tools", "json"})
ROLES = frozenset({"primary", "accuracy", "batch", "fallback"})
DIALECTS = frozenset({"openai", "anthropic"})


class UnknownModel(KeyError):
    """No model has this name or alias.

    Attributes:
        name: what was asked for.
        similar: names that look like it.
    """

    def __init__(self, name: str, similar: Iterable[str]) -> None:
        super().__init__(name)
        self.name = name
        self.similar = tuple(similar)

    def __str__(self) -> str:
        meant = f"; did you mean {' or '.join(self.similar)}?" if self.similar else ""
        return f"no model is called {self.name!r}{meant}"


class CatalogueError(ValueError):
    """A data file is not as it must be; says where and what is allowed."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit that calls share: requests and tokens a minute, and requests under way; None: no limit."""

    name: str
    rpm: int | None = None
    tpm: int | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """The card of one model.

    Tokens for `context_tokens` (question and answer together) and `output_tokens` (what we ask for at most),
    None where nobody knows. `accuracy` from 0 to 1, None where nobody has a figure.
    """

    name: str
    title: str = ""
    provider: str = ""
    dialect: str = "openai"  # what its vendor speaks; a gateway may speak another
    aliases: tuple[str, ...] = ()
    price: Price | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    drops: frozenset[str] = frozenset()
    accuracy: float | None = None
    accuracy_source: str = ""
    roles: tuple[str, ...] = ()
    suits: tuple[str, ...] = ()
    task_s: float | None = None  # time of one programming task
    first_token_ms: tuple[int, int] | None = None
    knowledge_until: str | None = None
    buckets: tuple[Bucket, ...] = ()  # a call must fit all of them
    listed: bool = True  # False: made for a name that the catalogue does not have

    @property
    def key_names(self) -> tuple[str, ...]:
        """The name and the aliases."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings for one kind of work; `latency_ms` is what was once seen."""

    name: str
    title: str
    model: str  # a name, never an alias
    temperature: float | None
    top_p: float | None
    max_tokens: int
    latency_ms: int | None = None

    def settings_for(self, model: Model) -> dict[str, float | int]:
        """What of it a model takes: fields that it refuses are left out, its most output is kept."""
        wanted = {"temperature": self.temperature, "top_p": self.top_p}
        settings: dict[str, float | int] = {
            key: value for key, value in wanted.items() if value is not None and key not in model.drops
        }
        most = model.output_tokens
        settings["max_tokens"] = self.max_tokens if most is None else min(self.max_tokens, most)
        return settings


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models by name, with their aliases, presets and price tables."""

    models: Mapping[str, Model]
    presets: Mapping[str, Preset] = field(default_factory=dict)
    tables: Mapping[str, PriceTable] = field(default_factory=dict)
    default_buckets: tuple[Bucket, ...] = ()  # of models that are not listed
    _names: Mapping[str, str] = field(default_factory=dict)  # name or alias -> name

    def find(self, name: str) -> Model | None:
        """The model of a name or alias; None if there is none."""
        known = self._names.get(name)
        return None if known is None else self.models[known]

    def get(self, name: str) -> Model:
        """The model of a name or alias.

        Raises:
            UnknownModel: there is none.
        """
        model = self.find(name)
        if model is None:
            raise UnknownModel(name, get_close_matches(name, self._names, n=3, cutoff=0.7))
        return model

    def in_role(self, role: str) -> tuple[Model, ...]:
        """The models of a role (primary, accuracy, batch, fallback), as the file orders them."""
        return tuple(model for model in self.models.values() if role in model.roles)

    def extended(self, names: Iterable[str]) -> "Catalogue":
        """The same with a card for each name it lacks: what genai-prices knows of it, or an empty one."""
        more = {name: self._card(name) for name in names if name not in self._names}
        return replace(
            self,
            models={**self.models, **more},
            _names={**self._names, **{name: name for name in more}},
        )

    def price(self, model: str, table: PriceTable | None = None) -> Price | None:
        """What a model costs at a gateway with this price table; None if nobody knows.

        The gateway's own table comes first, then our list, then the list of genai-prices.
        """
        card = self.find(model)
        name = model if card is None else card.name
        if table is not None and name in table.prices:
            return table.prices[name]
        if card is not None:
            return card.price
        return _outside(name)[0]

    def cost(self, model: str, tokens: TokenCounts, table: PriceTable | None = None) -> Cost | None:
        """What a call costs; None if the price is not known, which is not the same as nothing."""
        price = self.price(model, table)
        return None if price is None else price.cost(tokens)

    def _card(self, name: str) -> Model:
        price, context = _outside(name)
        return Model(
            name=name,
            title=name,
            price=price,
            context_tokens=context,
            capabilities=frozenset(),
            buckets=tuple(replace(each, name=f"model:{name}") for each in self.default_buckets),
            listed=False,
        )


@lru_cache(1024)
def _outside(name: str) -> tuple[Price | None, int | None]:
    """Price and context of a model we do not list, from the data that come with genai-prices."""
    # A quarter of a second to import, and only for models that are not listed.
    from genai_prices import Usage, calc_price

    reference = name.rpartition("/")[2]  # gateways write provider/model
    try:
        # A thousand tokens cost a thousandth of the price per million; so few are in no tier for long prompts.
        one = [calc_price(usage, reference) for usage in (Usage(input_tokens=1000), Usage(output_tokens=1000))]
    except (LookupError, ValueError):
        return None, None
    read, written = (found.total_price * 1000 for found in one)
    if not read and not written:
        return None, one[0].model.context_window  # a free tier elsewhere says nothing about this gateway
    return (
        Price(input=read, output=written, source=f"genai-prices: {one[0].provider.id}/{one[0].model.id}"),
        one[0].model.context_window,
    )


def load_catalogue(path: Path | None = None) -> Catalogue:
    """The catalogue in `path`, or the one that comes with us.

    Raises:
        CatalogueError: the file is not as it must be.
    """
    where = "catalogue.toml" if path is None else str(path)
    try:
        if path is None:
            text = files("domain").joinpath("data", "catalogue.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return parse_catalogue(tomllib.loads(text, parse_float=Decimal))
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{where}: {error}") from None


def parse_catalogue(data: Mapping[str, Any]) -> Catalogue:
    """A catalogue from a data file's content.

    Raises:
        ValueError: names what is wrong.
    """
    _only(data, {"checked", "models", "providers", "buckets", "tables", "presets"}, "the file")
    models = {name: _model(name, entry, data) for name, entry in data.get("models", {}).items()}
    if not models:
        raise ValueError("there is no model in it")
    names: dict[str, str] = {}
    for model in models.values():
        for each in model.key_names:
            if names.setdefault(each, model.name) != model.name:
                raise ValueError(f"{each!r} means both {names[each]} and {model.name}")
    tables = {
        name: parse_table(name, entry, f"tables.{name}") for name, entry in data.get("tables", {}).items()
    }
    for table in tables.values():
        for name in table.prices:
            if name not in models:
                raise ValueError(f"tables.{table.name}.prices names {name!r}, which is not a model here")
    usual = data.get("buckets", {}).get("default")
    return Catalogue(
        models=models,
        presets={name: _preset(name, entry, names) for name, entry in data.get("presets", {}).items()},
        tables=tables,
        default_buckets=() if usual is None else (_bucket("default", usual, "buckets.default"),),
        _names=names,
    )


def _model(name: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Model:
    where = f"models.{name}"
    _only(
        entry,
        {
            "title", "provider", "dialect", "aliases", "context_tokens", "output_tokens", "capabilities",
            "accuracy", "accuracy_source", "task_s", "first_token_ms", "knowledge_until", "drops", "roles",
            "suits", "bucket", "price",
        },
        where,
    )  # fmt: skip
    provider = str(entry.get("provider", ""))
    buckets: list[Bucket] = []
    if provider in data.get("providers", {}):
        buckets.append(_bucket(f"provider:{provider}", data["providers"][provider], f"providers.{provider}"))
    own = entry.get("bucket")
    if own is not None:
        if own not in data.get("buckets", {}):
            raise ValueError(f"{where}.bucket: there is no buckets.{own}")
        # `default` is a size that many have, each its own; the others are shared by their models.
        label = f"model:{name}" if own == "default" else f"bucket:{own}"
        buckets.append(_bucket(label, data["buckets"][own], f"buckets.{own}"))
    accuracy = entry.get("accuracy")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise ValueError(f"{where}.accuracy must be from 0 to 1")
    first = entry.get("first_token_ms")
    dialect = str(entry.get("dialect", "openai"))
    if dialect not in DIALECTS:
        raise ValueError(f"{where}.dialect must be one of {', '.join(sorted(DIALECTS))}")
    price = entry.get("price")
    return Model(
        name=name,
        title=str(entry.get("title", name)),
        provider=provider,
        dialect=dialect,
        aliases=tuple(map(str, entry.get("aliases", ()))),
        price=None if price is None else parse_price(price, f"{where}.price", usd_per_unit=Decimal(1)),
        context_tokens=_count(entry.get("context_tokens"), f"{where}.context_tokens"),
        output_tokens=_count(entry.get("output_tokens"), f"{where}.output_tokens"),
        capabilities=_some(entry, "capabilities", CAPABILITIES, where),
        drops=_some(entry, "drops", DROPPABLE, where),
        accuracy=None if accuracy is None else float(accuracy),
        accuracy_source=str(entry.get("accuracy_source", "")),
        roles=tuple(sorted(_some(entry, "roles", ROLES, where))),
        suits=tuple(map(str, entry.get("suits", ()))),
        task_s=None if entry.get("task_s") is None else float(entry["task_s"]),
        first_token_ms=None if first is None else (int(first[0]), int(first[1])),
        knowledge_until=entry.get("knowledge_until"),
        buckets=tuple(buckets),
    )


def _preset(name: str, entry: Mapping[str, Any], names: Mapping[str, str]) -> Preset:
    where = f"presets.{name}"
    _only(entry, {"title", "model", "temperature", "top_p", "max_tokens", "latency_ms"}, where)
    if entry.get("model") not in names:
        raise ValueError(f"{where}.model: {entry.get('model')!r} is not a model or alias here")
    most = _count(entry.get("max_tokens"), f"{where}.max_tokens")
    if most is None:
        raise ValueError(f"{where}.max_tokens is missing")
    temperature, top_p = entry.get("temperature"), entry.get("top_p")
    return Preset(
        name=name,
        title=str(entry.get("title", name)),
        model=names[entry["model"]],
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
        max_tokens=most,
        latency_ms=_count(entry.get("latency_ms"), f"{where}.latency_ms"),
    )


def _bucket(name: str, entry: Mapping[str, Any], where: str) -> Bucket:
    _only(entry, {"rpm", "tpm", "burst"}, where)
    return Bucket(name, **{key: _count(value, f"{where}.{key}") for key, value in entry.items()})


def _count(value: object, where: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"{where} must be a whole number above 0")


def _some(entry: Mapping[str, Any], key: str, allowed: frozenset[str], where: str) -> frozenset[str]:
    chosen = frozenset(entry.get(key, ()))
    if unknown := sorted(chosen - allowed):
        raise ValueError(
            f"{where}.{key}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(allowed))}"
        )
    return chosen


def _only(entry: Mapping[str, Any], allowed: set[str], where: str) -> None:
    if unknown := sorted(set(entry) - allowed):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(allowed))}")
