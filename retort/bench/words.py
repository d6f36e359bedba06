"""Figures as a person reads them."""

from decimal import ROUND_HALF_EVEN, Decimal

from retort.bench.metrics import Best, Metric, Unit, Value, plain
from retort.bench.stats import Rate

UNKNOWN = "unknown"

#: Significant digits of dollars.
_DIGITS = 4


def shown(value: Value, unit: Unit) -> str:
    """A value with its unit.

    >>> shown(0.0123, Unit.SECONDS), shown(Rate(47, 50), Unit.RATE), shown(Decimal("0.00041600"), Unit.DOLLARS)
    ('12 ms', '94.0 % (47 of 50)', '$0.000416')
    """
    number = plain(value)
    if number is None:
        return UNKNOWN
    if isinstance(value, Rate):
        return f"{100 * number:.1f} % ({value.hits} of {value.of})"
    if unit is Unit.SECONDS:
        return seconds(float(number))
    if unit is Unit.DOLLARS:
        return dollars(Decimal(number))
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def seconds(value: float) -> str:
    """A time.

    >>> seconds(0.00123), seconds(0.5), seconds(12.345)
    ('1.2 ms', '500 ms', '12.35 s')
    """
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def dollars(value: Decimal) -> str:
    """An amount, at least to the cent, small ones to four digits.

    >>> dollars(Decimal("4.16")), dollars(Decimal("0")), dollars(Decimal("0.00012345"))
    ('$4.16', '$0.00', '$0.0001234')
    """
    places = 2
    if value and abs(value) < 1:
        places = max(2, _DIGITS - 1 - value.adjusted())
    text = f"{value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN):,f}"
    whole, _, part = text.partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"


def winner(metric: Metric, found: Best | None) -> str:
    """Who is best, in words."""
    if found is None:
        return ""
    names = ", ".join(found.subjects)
    return f"{names} (close)" if found.close else names
