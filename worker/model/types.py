"""What the parts of the model front end say to each other."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is `user` or `assistant`; the system prompt travels apart."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One question to one model. Two equal calls may share one answer.

    `model` is the catalogue's name, never an alias; temperatures are from 0 to 1, None leaves the model its
    own; limits in tokens.
    """

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    temperature: float | None = 0.2
    top_p: float | None = None
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()


class Finish(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"  # cut off; also where the gateway names no reason
    REFUSAL = "refusal"  # refused, or held back by a content filter


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the gateway counted them; `estimated` where it did not.

    `input_tokens` are those at full price: what came from the gateway's own cache, and what was written to it,
    is counted apart.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """All tokens, however priced."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What came back. `model_version` is what the gateway says it used, `gateway` our name for who was asked.

    Times in seconds. `reported_cost_usd` is the gateway's own figure, as text, where it gives one.
    """

    text: str
    finish: Finish
    usage: Usage
    model: str
    model_version: str
    gateway: str
    request_id: str  # the X-Request-ID we sent
    latency_s: float
    first_byte_s: float
    scripted: bool = False  # by a scripted model: for demonstrations and tests
    reported_cost_usd: str | None = None


class Failure(StrEnum):
    """Kinds of failed calls. What may be tried again, and where, follows from the kind alone."""

    AUTH = "auth"  # 401, 403: the key is wrong or may not
    QUOTA = "quota"  # the account has no credit left, or its spend limit is reached
    BAD_REQUEST = "bad_request"  # the gateway refuses the question as it is
    CONTEXT = "context"  # the question is longer than the model takes
    NOT_FOUND = "not_found"  # the gateway does not know the model
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"  # 503, 529
    SERVER = "server"  # other 5xx
    TIMEOUT = "timeout"  # one of our deadlines passed, or the gateway's
    CONNECTION = "connection"
    BAD_RESPONSE = "bad_response"  # not what the dialect says
    TOO_LARGE = "too_large"  # more bytes than we take


#: The same call may succeed a little later.
RETRYABLE = frozenset(
    {
        Failure.RATE_LIMITED,
        Failure.OVERLOADED,
        Failure.SERVER,
        Failure.TIMEOUT,
        Failure.CONNECTION,
        Failure.BAD_RESPONSE,
    }
)

#: Another call to the same gateway would fail alike until a person does something.
FATAL = frozenset({Failure.AUTH, Failure.QUOTA})


@dataclass(eq=False)
class ModelError(Exception):
    """A call that gave no answer.

    `detail` is for people and holds no secret; `retry_after_s` is what the gateway asked for; `usage` is set
    where tokens were spent all the same; `should_retry` is what the gateway says of trying again, if it says.
    """

    kind: Failure
    detail: str
    status: int | None = None
    retry_after_s: float | None = None
    gateway: str = ""
    model: str = ""
    request_id: str = ""
    latency_s: float = 0.0
    usage: Usage | None = None
    hints: tuple[str, ...] = field(default=())
    should_retry: bool | None = None

    def __str__(self) -> str:
        status = f" (HTTP {self.status})" if self.status else ""
        return f"{self.kind}{status}: {self.detail}"
