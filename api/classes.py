"""Times in classes, each 3 % longer than the one before: percentiles of any number of them without sorting.

>>> found = {0: 98, 32: 2}
>>> [round(value, 2) for value in percentiles(found, (0.5, 0.99))]
[1.0, 2.72]
>>> percentiles({}, (0.5,)) is None
True
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, case, cast, func

#: Classes for a factor of e.
_EACH = 32
#: Shorter times are of one class.
_LEAST_S = 1e-6


def class_of(seconds: ColumnElement[Any]) -> ColumnElement[int]:
    """The number of the class that some seconds are in; null for null."""
    number = cast(func.ln(func.greatest(seconds, _LEAST_S)) * _EACH, Integer)
    return case((seconds.is_not(None), number))  # `greatest` passes over nulls


def percentiles(found: Mapping[int, int], shares: Sequence[float]) -> list[float] | None:
    """Seconds below which these shares lie, of times of which there are so many in each class; None of none."""
    count = sum(found.values())
    if not count:
        return None
    values = []
    for share in shares:
        left = share * count
        for number in sorted(found):
            if left <= found[number]:
                break
            left -= found[number]
        values.append(math.exp((number - 0.5 + min(1.0, left / found[number])) / _EACH))
    return values
