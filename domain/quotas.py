"""What a caller may do and how much: scopes of keys, and quotas.

>>> Quotas.of({"queued": 5, "ceilings": {"timeout_s": 10}}, most_running=2).as_dict()
{'running': 2, 'queued': 5, 'ceilings': {'timeout_s': 10}}
>>> DEFAULTS = Quotas(queued=100, requests_per_s=10, burst=20)
>>> Quotas(queued=5).over(DEFAULTS)  # doctest: +NORMALIZE_WHITESPACE
Quotas(requests_per_s=10, burst=20, running=None, queued=5, execution_s_per_day=None, model_usd_per_day=None,
       model_tokens_per_minute=None, retention_days=None, ceilings={}, allowed={})
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Scope(StrEnum):
    """What a key is good for."""

    SUBMIT = "submit"  # submit, rerun, cancel and delete jobs
    READ = "read"  # read one's own jobs
    ADMIN = "admin"  # callers and keys, of everybody


#: What a key is good for unless somebody chose.
USUAL_SCOPES = (Scope.SUBMIT, Scope.READ)


@dataclass(frozen=True, slots=True)
class Quotas:
    """Quotas of one caller; None: the service's own default, which may be no limit at all.

    Attributes:
        requests_per_s, burst: the token bucket of requests.
        running: jobs that run at the same time.
        queued: jobs that wait.
        execution_s_per_day: seconds of wall time of programs in one UTC day.
        model_usd_per_day: US dollars that models may cost in one UTC day, a decimal as text.
        model_tokens_per_minute: tokens, in and out, that calls of models may have in any minute.
        retention_days: days for which jobs are kept after their end, with all that they left.
        ceilings: the highest value of each limit of a job, by the limit's name.
        allowed: the values that a field of a request may have (`profile`, `language`), by the field's name.
    """

    requests_per_s: float | None = None
    burst: int | None = None
    running: int | None = None
    queued: int | None = None
    execution_s_per_day: float | None = None
    model_usd_per_day: str | None = None
    model_tokens_per_minute: int | None = None
    retention_days: int | None = None
    ceilings: Mapping[str, float] = field(default_factory=dict)
    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any], most_running: int | None) -> "Quotas":
        """Quotas as `callers` has them. What another version stored is kept out."""
        known = {name: value for name, value in stored.items() if name in cls.__slots__}
        return cls(**{**known, "running": most_running})

    def as_dict(self) -> dict[str, Any]:
        """What is set, as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}

    def stored(self) -> dict[str, Any]:
        """What goes into the column `quotas`; `running` has a column of its own, because claims look at it."""
        return {name: value for name, value in self.as_dict().items() if name != "running"}

    def over(self, defaults: "Quotas") -> "Quotas":
        """These quotas, with the defaults where nothing is said."""
        return replace(defaults, **self.as_dict())
