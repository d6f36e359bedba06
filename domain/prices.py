"""What tokens cost. Decimals throughout; a price that nobody knows is None, never 0.

>>> price = Price(input=Decimal("2.00"), output=Decimal("8.00"))
>>> price.cost(Tokens(input_tokens=1000, output_tokens=500)).usd
Decimal('0.006')
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Protocol

MILLION = Decimal(1_000_000)

USD = "USD"


class TokenCounts(Protocol):
    """Tokens of one call. `input_tokens` are those at full price; cached ones are counted apart."""

    @property
    def input_tokens(self) -> int:
        """Read anew."""

    @property
    def output_tokens(self) -> int:
        """Written by the model."""

    @property
    def cache_read_tokens(self) -> int:
        """Read from the gateway's own cache."""

    @property
    def cache_write_tokens(self) -> int:
        """Read, and written to the gateway's own cache."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The plainest token counts: for estimates."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """Prices per million tokens, in `currency`; one unit of it costs `usd_per_unit` dollars.

    A cached token without a price of its own costs what a fresh one does: too much rather than too little.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    currency: str = USD
    usd_per_unit: Decimal = Decimal(1)
    source: str = ""
    checked: date | None = None

    def cost(self, tokens: TokenCounts) -> "Cost":
        """What a call with these tokens costs."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        amount = (
            self.input * tokens.input_tokens
            + self.output * tokens.output_tokens
            + read * tokens.cache_read_tokens
            + write * tokens.cache_write_tokens
        ) / MILLION
        return Cost(usd=amount * self.usd_per_unit, amount=amount, price=self)

    def as_dict(self) -> dict[str, Any]:
        """A JSON object, decimals as text: what is stamped into a stored call."""
        return {
            "input": str(self.input),
            "output": str(self.output),
            "cache_read": None if self.cache_read is None else str(self.cache_read),
            "cache_write": None if self.cache_write is None else str(self.cache_write),
            "currency": self.currency,
            "usd_per_unit": str(self.usd_per_unit),
            "source": self.source,
            "checked": None if self.checked is None else self.checked.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost in dollars, the same in the currency that is paid, and the price that gave it."""

    usd: Decimal
    amount: Decimal
    price: Price

    @property
    def cents(self) -> Decimal:
        """In US cents."""
        return self.usd * 100

    def rounded(self, places: int = 4) -> Decimal:
        """Dollars for a person to read; sums are made of what is not rounded."""
        return self.usd.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model name that stand in for the list prices: what one gateway asks."""

    name: str
    title: str = ""
    prices: Mapping[str, Price] = field(default_factory=dict)


def amount(value: object, where: str) -> Decimal:
    """A finite decimal that is not negative.

    Floats are refused: they were rounded already. Data files are read with `parse_float=Decimal`.

    Raises:
        ValueError: it is none; names `where`.
    """
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite() and number >= 0:
            return number
    raise ValueError(f'{where} must be a decimal number that is not negative, as "2.50"')


def parse_price(entry: Mapping[str, Any], where: str, *, currency: str = USD, usd_per_unit: Decimal) -> Price:
    """One price of a data file: `input` and `output`, or `all` for both.

    Raises:
        ValueError: names what is wrong in `where`.
    """
    allowed = {"input", "output", "all", "cache_read", "cache_write", "source", "checked"}
    if unknown := sorted(set(entry) - allowed):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(allowed))}")
    if "all" in entry and {"input", "output"} & set(entry):
        raise ValueError(f"{where} has `all` beside `input` or `output`; give one or the other")
    given = {
        name: amount(entry[name], f"{where}.{name}")
        for name in allowed - {"source", "checked"}
        if name in entry
    }
    every = given.get("all")
    read, written = given.get("input", every), given.get("output", every)
    if read is None or written is None:
        raise ValueError(f"{where} needs `input` and `output`, or `all`")
    return Price(
        input=read,
        output=written,
        cache_read=given.get("cache_read"),
        cache_write=given.get("cache_write"),
        currency=currency,
        usd_per_unit=usd_per_unit,
        source=str(entry.get("source", "")),
        checked=entry.get("checked"),
    )


def parse_table(name: str, entry: Mapping[str, Any], where: str) -> PriceTable:
    """A price table of a data file; see catalogue.toml.

    Raises:
        ValueError: names what is wrong in `where`.
    """
    currency = str(entry.get("currency", USD))
    if currency != USD and "usd_per_unit" not in entry:
        raise ValueError(f"{where}.usd_per_unit is missing: dollars that one {currency} costs")
    rate = amount(entry.get("usd_per_unit", 1), f"{where}.usd_per_unit")
    title = str(entry.get("title", name))
    prices = {
        model: parse_price(
            {"source": title, **price},
            f"{where}.prices.{model}",
            currency=currency,
            usd_per_unit=rate,
        )
        for model, price in entry.get("prices", {}).items()
    }
    return PriceTable(name=name, title=title, prices=prices)
