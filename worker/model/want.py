"""What the pipeline asks of the models, and what it gets back: the words of the port."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from domain.prices import Price
from worker.model.types import Failure, Finish, Message, ModelAnswer, ModelError, Usage

#: In place of a model's name: the router chooses.
AUTO = "auto"


class Route(StrEnum):
    """What `auto` prefers. Without one the task's complexity chooses."""

    COST = "cost"
    SPEED = "speed"
    ACCURACY = "accuracy"


class Priority(StrEnum):
    """Whether somebody waits for the answer."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class CallStatus(StrEnum):
    """How an answer came, or that none did."""

    OK = "ok"  # asked and paid for
    CACHED = "cached"  # from the response cache
    SHARED = "shared"  # from an identical call in flight, which somebody else pays
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call, ready to be a row. None where something is unknown; a cached or shared answer costs 0."""

    request_id: str  # the X-Request-ID we sent; that of the first asker where the answer is cached or shared
    model: str
    gateway: str
    status: CallStatus
    number: int  # 1 for the first call of this `generate`
    retry: int  # 0 for the first try of this model, then 1, 2, …
    model_version: str | None = None
    scripted: bool = False
    text: str | None = None
    finish: Finish | None = None
    usage: Usage | None = None
    price: Price | None = None  # `as_dict` is what is stored
    cost_usd: Decimal | None = None
    latency_s: float = 0.0
    first_byte_s: float | None = None
    waited_s: float = 0.0  # for capacity, before it was sent
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    failure: Failure | None = None
    http_status: int | None = None
    detail: str | None = None  # for people; holds no secret
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """One answer wanted: the conversation, who asks, and the policy for choosing a model.

    Money in US dollars, times in seconds, limits in tokens. None means the default of catalogue or settings.
    """

    caller: str
    messages: tuple[Message, ...]
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    model: str = AUTO  # name, alias or `auto`
    route: Route | None = None
    role: str | None = (
        None  # with `auto`: models of this role first; `primary`, `accuracy`, `batch`, `fallback`
    )
    text: str = ""  # the task in words: its complexity is read from it
    required_accuracy: float | None = None
    needs: frozenset[str] = frozenset()  # capabilities, as the catalogue names them
    fallbacks: tuple[str, ...] | None = None  # () forbids any; None: the catalogue's
    avoid: frozenset[str] = frozenset()  # models not to be used, for instance those that failed before

    budget_usd: Decimal | None = None  # what the job may still spend
    caller_budget_usd: Decimal | None = None  # what the caller may spend a day
    caller_spent_usd: Decimal = Decimal(0)  # what the database says they spent today
    caller_day: str = ""  # the database's day, as 2026-11-21
    caller_tokens_per_minute: int | None = None  # in and out, of all models together
    job: str = field(default="", compare=False)  # whose question it is: a kept answer goes with it

    priority: Priority = Priority.INTERACTIVE
    cache: bool = False  # the response cache may answer, and may keep the answer
    coalesce: bool = True  # an identical call of the same caller that is in flight may answer
    may_queue: bool = True  # where no model can be had now, `Queued` instead of `ModelsFailed`
    deadline_s: float = 600.0

    #: Called in the thread that called `generate`, for every call, before anything uses its answer; with what
    #: `generate` will return, if this call gave it. What it raises ends `generate`.
    on_call: "OnCall | None" = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A model that was not used, and why, as a sentence for a person."""

    model: str
    gateway: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answered, why it was chosen, and why others were not."""

    model: str
    gateway: str
    reason: str
    skipped: tuple[Skip, ...] = ()


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer, and how it came about."""

    answer: ModelAnswer
    choice: Choice
    calls: tuple[CallRecord, ...]
    cost_usd: Decimal | None  # of all calls together; None where a price is unknown

    @property
    def cached(self) -> bool:
        """Whether nothing was asked for it."""
        return self.calls[-1].status is CallStatus.CACHED


OnCall = Callable[[CallRecord, Generated | None], None]


@dataclass(eq=False)
class GenerateError(Exception):
    """No answer. `reason` is a sentence for a person, `code` what a job stores."""

    reason: str
    skipped: tuple[Skip, ...] = field(default=())
    calls: tuple[CallRecord, ...] = field(default=())

    code = "model_failed"

    def __str__(self) -> str:
        return self.reason


class NoModel(GenerateError):
    """The policy leaves no model: unknown, not served, unable, not accurate enough. Asking again is useless."""

    code = "no_model"


@dataclass(eq=False)
class ContextTooLong(NoModel):
    """The conversation and its answer fit neither context nor limits of any model that the policy allows."""

    most_tokens: int = 0  # that question and answer may have at the roomiest of them

    code = "context_too_long"


class BudgetExceeded(GenerateError):
    """The next call could break the budget of the job or of the caller's day, so it was not made."""

    code = "budget_exceeded"


@dataclass(eq=False)
class ModelsFailed(GenerateError):
    """Every model that the policy allows was tried or was out of reach."""

    last: ModelError | None = None


class DeadlinePassed(ModelsFailed):
    """`deadline_s` passed first."""


@dataclass(eq=False)
class Queued(GenerateError):
    """No model can be had now; the same want may succeed after `retry_in_s` seconds, from the batch queue."""

    retry_in_s: float = 0.0
    last: ModelError | None = None
    callers: bool = False  # models could be asked, but the caller has sent enough for now

    code = "queued"
