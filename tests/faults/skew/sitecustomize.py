"""A clock that goes wrong: with this folder on its path, a Python process sees another time of day."""

import datetime
import os
import time

_SKEW_S = float(os.environ.get("TEST_SKEW_S", "0"))
_time, _time_ns = time.time, time.time_ns


def _skewed() -> float:
    return _time() + _SKEW_S


def _skewed_ns() -> int:
    return _time_ns() + int(_SKEW_S * 1e9)


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(_skewed(), tz)

    @classmethod
    def utcnow(cls) -> "_Datetime":
        return cls.fromtimestamp(_skewed(), datetime.UTC).replace(tzinfo=None)


if _SKEW_S:
    time.time, time.time_ns = _skewed, _skewed_ns
    datetime.datetime = _Datetime  # type: ignore[misc]
