"""Callers and keys, as requests and answers carry them."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from api.schemas import Answer, Strict, Text
from domain.quotas import Scope

#: A hundred years: as good as for ever, and far from the end of the database's time.
MOST_SECONDS = 100 * 366 * 86400

Name = Annotated[Text, Field(min_length=1, max_length=128)]
LimitName = Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
Whole = Annotated[int, Field(ge=1, le=2**31 - 1)]


#: More than any price is; what Redis counts in fits a number up to nine times as much.
MOST_USD = 1_000_000


def _usd(given: float | str) -> str:
    """An amount as it is stored: decimal text."""
    try:
        amount = Decimal(str(given))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= MOST_USD or amount != round(amount, 9):
        raise PydanticCustomError("usd", f"must be from 0 to {MOST_USD}, with 9 decimals at most")
    return f"{amount:f}"


Usd = Annotated[float | str, AfterValidator(_usd)]


class QuotasRequest(Strict):
    """Quotas of a caller. What is missing or null is the service's default."""

    requests_per_s: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1, le=10**6, description="Requests at once.")
    running: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Jobs at a time; 0: none.")
    queued: Whole | None = Field(default=None, description="Jobs that wait.")
    execution_s_per_day: float | None = Field(
        default=None, ge=0, le=1e12, allow_inf_nan=False, description="Wall time of programs in a UTC day."
    )
    model_usd_per_day: Usd | None = Field(
        default=None,
        description="US dollars that models may cost in a UTC day; a number, or decimal text.",
    )
    model_tokens_per_minute: Whole | None = Field(
        default=None, description="Tokens, in and out, that calls of models may have in any minute."
    )
    retention_days: int | None = Field(
        default=None, ge=1, le=36_500, description="Days for which jobs are kept after their end."
    )
    ceilings: dict[LimitName, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default={}, max_length=32, description="The highest value of a job's limits, by the limit's name."
    )
    allowed: dict[LimitName, Annotated[list[Name], Field(max_length=64)]] = Field(
        default={}, max_length=8, description="Values that `profile` or `language` may have."
    )


class CallerRequest(Strict):
    """A new caller."""

    name: Name
    quotas: QuotasRequest = QuotasRequest()


class CallerChange(Strict):
    """All quotas of a caller, in place of those it has."""

    quotas: QuotasRequest


class KeyRequest(Strict):
    """A new key."""

    caller_id: str = Field(description="Whom it speaks for.")
    scopes: list[Literal["submit", "read", "admin"]] = Field(
        default=["submit", "read"], min_length=1, max_length=3
    )
    expires_in_s: int | None = Field(
        default=None, ge=1, le=MOST_SECONDS, description="When it ends; null: never."
    )


class RotateRequest(Strict):
    """How a key is replaced."""

    overlap_s: int = Field(default=0, ge=0, le=MOST_SECONDS, description="How long the old key stays good.")


class QuotasAnswer(Answer):
    """The quotas that were set for a caller; for those that are missing the service has defaults."""

    requests_per_s: float | None = None
    burst: int | None = None
    running: int | None = None
    queued: int | None = None
    execution_s_per_day: float | None = None
    model_usd_per_day: str | None = None
    model_tokens_per_minute: int | None = None
    retention_days: int | None = None
    ceilings: dict[str, float] = {}
    allowed: dict[str, list[str]] = {}


class CallerLinks(Answer):
    """Paths of related things."""

    self: str
    keys: str


class CallerAnswer(Answer):
    """A caller."""

    id: UUID
    name: str
    created_at: datetime
    quotas: QuotasAnswer
    links: CallerLinks


class CallerList(Answer):
    """Callers, newest first."""

    callers: list[CallerAnswer]
    next_cursor: str | None


class KeyLinks(Answer):
    """Paths of related things."""

    self: str
    caller: str


class KeyAnswer(Answer):
    """A key. Its secret part is in `key` once, in the answer to the request that made it, and never again."""

    id: UUID
    caller_id: UUID
    hint: str
    scopes: list[Scope]
    state: Literal["valid", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    key: str | None
    links: KeyLinks


class KeyList(Answer):
    """Keys, newest first."""

    keys: list[KeyAnswer]
    next_cursor: str | None
