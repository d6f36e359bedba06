"""How long a gateway asks us to wait: every spelling that gateways use, in seconds.

>>> seconds({"retry-after": "1.5"}, now=0)
1.5
>>> seconds({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, now=4)
6.0
>>> seconds({"llm_provider-retry-after-ms": "250"}, now=0)
0.25
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Header names in the order in which they are believed, and what one unit of a bare number is in seconds. A
#: gateway that stands between passes its provider's on under another name.
_SPELLINGS = (
    ("retry-after-ms", 0.001),
    ("retry-after", 1.0),
    ("llm_provider-retry-after-ms", 0.001),
    ("llm_provider-retry-after", 1.0),
)

#: When a bucket is full again. Only one that is empty is a reason to wait, so `remaining` must be 0.
_RESETS = (
    "anthropic-ratelimit-requests",
    "anthropic-ratelimit-tokens",
    "anthropic-ratelimit-input-tokens",
    "anthropic-ratelimit-output-tokens",
    "x-ratelimit-requests",
    "x-ratelimit-tokens",
)

_NUMBER = re.compile(r"\+?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

#: More digits than any time has; `float` of a long text takes long.
_MOST = 64


def seconds(headers: Mapping[str, str], *, now: float, resets: bool = True) -> float | None:
    """The wait that the headers ask for, from 0; None if they ask for none that can be understood.

    Args:
        headers: an answer's headers; names in any case.
        now: seconds since 1970.
        resets: whether to look also at when empty buckets are full again, as only a 429 should.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit in _SPELLINGS:
        if name in lower:
            found = _wait(lower[name], unit, now)
            if found is not None:
                return found
    if not resets:
        return None
    waits = [wait for name in _RESETS if (wait := _reset(lower, name, now)) is not None]
    return max(waits, default=None)


def _wait(value: str, unit: float, now: float) -> float | None:
    """A number of units, or an HTTP date."""
    if len(value) > _MOST:
        return None
    if _NUMBER.fullmatch(value):
        return _sound(float(value) * unit)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _until(when, now)


def _reset(headers: Mapping[str, str], name: str, now: float) -> float | None:
    # anthropic-ratelimit-requests-reset, x-ratelimit-reset-requests
    vendor, _, kind = name.partition("-ratelimit-")
    if vendor == "x":
        remaining, reset = f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}"
    else:
        remaining, reset = f"{name}-remaining", f"{name}-reset"
    value = headers.get(reset, "")
    if headers.get(remaining) != "0" or not value or len(value) > _MOST:
        return None
    parts = list(_PART.finditer(value))
    if parts and "".join(part[0] for part in parts) == value:
        return _sound(sum(float(part[1]) * _UNITS[part[2]] for part in parts))
    try:
        return _until(datetime.fromisoformat(value), now)
    except ValueError:
        return None


def _until(when: datetime, now: float) -> float | None:
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return _sound(max(0.0, when.timestamp() - now))
    except (OverflowError, OSError, ValueError):
        return None


def _sound(value: float) -> float | None:
    return value if math.isfinite(value) and value >= 0 else None
