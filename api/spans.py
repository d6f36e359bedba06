"""Spans of time from a query: two moments, or two days."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from api.documents import money
from api.filters import moment
from api.problems import FieldError, invalid
from api.queries import one_of
from domain.ids import id_at

BUCKETS = ("hour", "day")
FORMATS = ("json", "csv")

#: Spans are bounded, and so is the number of rows that they are cut into.
MOST_DAYS = 366
MOST_DAYS_OF_HOURS = 31

_WRONG = FieldError("since", "is not before `until`, or too long before", f"at most {MOST_DAYS} days")

#: Longest that a job can have been there before it used something.
_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Window:
    """From one moment until before another, cut into hours or days."""

    since: datetime
    until: datetime
    bucket: str

    @classmethod
    def of(cls, query: dict[str, str]) -> "Window":
        """The one that a query asks for.

        Raises:
            Problem: 422.
        """
        until = moment("until", query["until"]) if "until" in query else datetime.now(UTC)
        since = moment("since", query["since"]) if "since" in query else _before(until, timedelta(days=1))
        if not timedelta(0) < until - since <= timedelta(days=MOST_DAYS):
            raise invalid(_WRONG)
        if since.timestamp() < 0:
            raise invalid(FieldError("since", "is before there were jobs", "1970 or later"))
        long = until - since > timedelta(days=MOST_DAYS_OF_HOURS)
        usual = "day" if until - since > timedelta(days=2) else "hour"
        bucket = one_of(query, "bucket", list(BUCKETS)) or usual
        if long and bucket == "hour":
            raise invalid(FieldError("bucket", f"must be day for more than {MOST_DAYS_OF_HOURS} days", ["day"]))
        return cls(since, until, bucket)

    def monthly(self, cost_usd: str) -> str | None:
        """What this cost would be for 30 days."""
        share = Decimal(30 * 86400) / Decimal((self.until - self.since).total_seconds())
        return money(round(Decimal(cost_usd) * share, 6))


@dataclass(frozen=True, slots=True)
class Days:
    """From one UTC day to another, both included."""

    since: date
    until: date

    @classmethod
    def of(cls, query: dict[str, str]) -> "Days":
        """Those that a query asks for.

        Raises:
            Problem: 422.
        """
        until = _day("until", query["until"]) if "until" in query else datetime.now(UTC).date()
        since = _day("since", query["since"]) if "since" in query else until - timedelta(days=29)
        if not timedelta(0) <= until - since < timedelta(days=MOST_DAYS):
            raise invalid(_WRONG)
        return cls(since, until)

    def since_id(self) -> UUID:
        """Older than any job that used something in these days."""
        return id_at(datetime.combine(self.since, datetime.min.time(), UTC) - _LIFE)


def _before(until: datetime, span: timedelta) -> datetime:
    try:
        return until - span
    except OverflowError:
        raise invalid(FieldError("until", "is before there were jobs", "1970 or later")) from None


def _day(name: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    # `fromisoformat` knows weeks and shorter forms as well; a century is far enough from either end of time.
    if day.isoformat() != text or not 1971 <= day.year <= 2970:
        raise invalid(FieldError(name, "is not a day", "as in 2026-11-21"))
    return day
