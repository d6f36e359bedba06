"""What a mix of models costs against one model for everything. Pure arithmetic on decimals.

>>> sonnet, haiku = Price(Decimal(3), Decimal(15)), Price(Decimal("0.80"), Decimal(4))
>>> usage = Usage(calls=10_000, input_tokens=500, output_tokens=300)
>>> usage.cost(sonnet)
Decimal('60')
>>> compare(usage, sonnet, [(haiku, Decimal("0.6")), (sonnet, Decimal("0.4"))]).saved_usd
Decimal('26.4')
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

MILLION = Decimal(1_000_000)
MONTHS = 12


class MixError(ValueError):
    """The shares of a mix are not shares of one whole."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, in and out."""

    input: Decimal
    output: Decimal

    @classmethod
    def blended(cls, usd: Decimal) -> "Price":
        """One price for every token, whichever way it goes."""
        return cls(usd, usd)


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls, say of a month, and the tokens that one of them reads and writes."""

    calls: int
    input_tokens: int = 0
    output_tokens: int = 0

    def cost(self, price: Price) -> Decimal:
        """What they cost in dollars: input and output each at its own price."""
        once = price.input * self.input_tokens + price.output * self.output_tokens
        return _plain(self.calls * once / MILLION)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A mix against a baseline, in dollars for the same calls."""

    baseline_usd: Decimal
    mix_usd: Decimal

    @property
    def saved_usd(self) -> Decimal:
        """Negative where the mix is dearer."""
        return self.baseline_usd - self.mix_usd

    @property
    def saved_share(self) -> Decimal | None:
        """The saved part of the baseline, 0.04 for 4 %; None where the baseline costs nothing."""
        return self.saved_usd / self.baseline_usd if self.baseline_usd else None

    @property
    def saved_year_usd(self) -> Decimal:
        """In twelve months, if the calls are those of one."""
        return self.saved_usd * MONTHS


def compare(usage: Usage, baseline: Price, mix: Sequence[tuple[Price, Decimal]]) -> Comparison:
    """The same calls by the baseline alone, and shared out among the models of a mix.

    Raises:
        MixError: the shares do not add up to 1, or one is negative.
    """
    if any(share < 0 for _, share in mix) or sum(share for _, share in mix) != 1:
        raise MixError("the shares of a mix must be 0 or more, and add up to 100 %")
    mixed = sum((usage.cost(price) * share for price, share in mix), Decimal(0))
    return Comparison(usage.cost(baseline), _plain(mixed))


def error_cost_to_route_up(cheap_usd: Decimal, dear_usd: Decimal, accuracy_gain: Decimal) -> Decimal | None:
    """What a wrong answer must cost for the dearer, more accurate model to pay off.

    Costs of one call each; the gain is a difference of shares of right answers, 0.036 for 3.6 points.
    None: never.
    """
    if accuracy_gain <= 0:
        return None
    return (dear_usd - cheap_usd) / accuracy_gain


def cost_per_success(cost_usd: Decimal, successes: int) -> Decimal | None:
    """Dollars for one job that went well; None where none did."""
    return cost_usd / successes if successes else None


def calls_to_pay_back(fixed_usd: Decimal, saved_per_call_usd: Decimal) -> int | None:
    """Calls after which a change that costs `fixed_usd` has paid for itself; None: never."""
    if saved_per_call_usd <= 0:
        return None
    return int((fixed_usd / saved_per_call_usd).to_integral_value(ROUND_CEILING))


def _plain(value: Decimal) -> Decimal:
    """Without zeros at the end, and without an exponent."""
    normal = value.normalize()
    return normal.quantize(Decimal(1)) if normal == normal.to_integral_value() else normal
