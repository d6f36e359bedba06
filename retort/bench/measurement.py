"""One measurement: what a task did on a model, or a program on the execution side. A line of the journal."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from enum import StrEnum
from typing import Any

#: What stands in place of a model's name where a program was run and no model asked.
EXECUTION = "execution"


class Judgement(StrEnum):
    """What became of it. Only right and wrong are counted for accuracy."""

    RIGHT = "right"
    WRONG = "wrong"
    ERROR = "error"  # nobody's answer was judged: the model could not be asked, or we failed


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times in seconds; costs in dollars as text; None is unknown."""

    subject: str  # a model's name, or EXECUTION
    task: str
    category: str
    iteration: int
    job_id: str
    asked: str  # digest of the request without the model
    judgement: Judgement
    why: str  # how it ended
    verdict: str | None
    latency_s: float
    attempts: int
    right_at_once: bool | None = None  # of a task: whether the first program was right
    input_tokens: int | None = None
    output_tokens: int | None = None
    estimated: bool = False  # the gateway did not count some of the tokens
    cost_usd: str | None = None
    model_s: float | None = None  # that models took
    run_s: float | None = None  # that programs ran
    queue_s: float | None = None
    start: str | None = None  # cold, if any of its sandboxes was; else warm
    cold_start_s: float | None = None  # until the sandbox was there, where it was cold
    peak_memory_bytes: int | None = None
    versions: tuple[str, ...] = ()  # of the model, as the gateway names them
    scripted: bool = False
    taken_up: bool = False  # the job was found from before an interruption; the service's clock was read
    depth: int | None = None
    burst: bool = False  # one of many at once, to see cold sandboxes; counted for nothing else

    @property
    def key(self) -> str:
        """What it is the measurement of; no two in a journal have the same."""
        return key_of(self.subject, self.task, self.iteration)

    @property
    def cost(self) -> Decimal | None:
        """In dollars."""
        return None if self.cost_usd is None else Decimal(self.cost_usd)

    @property
    def tokens(self) -> int | None:
        """In and out."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    def as_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Measurement":
        """The measurement that a JSON object tells.

        Raises:
            ValueError, KeyError, TypeError: it tells none.
        """
        known = {each.name for each in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        given["judgement"] = Judgement(given["judgement"])
        given["versions"] = tuple(given.get("versions", ()))
        return cls(**given)


def key_of(subject: str, task: str, iteration: int) -> str:
    """What a measurement is the measurement of."""
    return f"{subject}/{task}/{iteration}"
