"""One question to one gateway, and what its end means: for the record, for the gate, for the money."""

from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from time import monotonic
from typing import Protocol
from uuid import uuid4

from worker.model.gate import Outcome
from worker.model.gateways import Gateway
from worker.model.router import Candidate
from worker.model.settings import ModelSettings
from worker.model.types import FATAL, Failure, ModelAnswer, ModelCall, ModelError
from worker.model.want import CallRecord, CallStatus, Want

#: Failures after which the gateway may have read the question, and may want money for it.
_MAYBE_READ = frozenset({Failure.TIMEOUT, Failure.BAD_RESPONSE, Failure.TOO_LARGE})

#: Failures that will be the same for every call of this model at this gateway.
_FATAL = FATAL | {Failure.NOT_FOUND}


class Client(Protocol):
    """Asks a gateway once."""

    async def ask(
        self, gateway: Gateway, call: ModelCall, *, request_id: str, deadline_s: float
    ) -> ModelAnswer:
        """Raises ModelError."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was asked: its record, and the answer or the failure."""

    record: CallRecord
    answer: ModelAnswer | None = None
    error: ModelError | None = None


async def ask(
    client: Client,
    candidate: Candidate,
    want: Want,
    *,
    number: int,
    retry: int,
    waited_s: float,
    within_s: float,
) -> Asked:
    """Ask once, for at most `within_s` seconds. A failure is a result, not an exception."""
    call = ModelCall(
        candidate.model.name, want.messages, want.system, want.temperature, want.top_p,
        candidate.max_tokens, want.stop,
    )  # fmt: skip
    record = CallRecord(
        str(uuid4()), candidate.model.name, candidate.gateway.name, CallStatus.OK, number, retry,
        price=candidate.price, waited_s=waited_s, temperature=want.temperature, top_p=want.top_p,
        max_tokens=candidate.max_tokens,
    )  # fmt: skip
    began = monotonic()
    try:
        answer = await client.ask(
            candidate.gateway, call, request_id=record.request_id, deadline_s=max(within_s, 0.001)
        )
    except ModelError as error:
        return Asked(_failed(record, error, monotonic() - began), error=error)
    return Asked(_answered(record, answer), answer)


def _answered(record: CallRecord, answer: ModelAnswer) -> CallRecord:
    cost = record.price.cost(answer.usage).usd if record.price else None
    if cost is None and answer.reported_cost_usd is not None:
        with suppress(ArithmeticError):
            cost = Decimal(answer.reported_cost_usd)
    return replace(
        record, model_version=answer.model_version, scripted=answer.scripted, text=answer.text,
        finish=answer.finish, usage=answer.usage, cost_usd=cost, latency_s=answer.latency_s,
        first_byte_s=answer.first_byte_s,
    )  # fmt: skip


def _failed(record: CallRecord, error: ModelError, took_s: float) -> CallRecord:
    cost: Decimal | None = Decimal(0)
    if error.usage is not None:
        cost = record.price.cost(error.usage).usd if record.price else None
    elif error.kind in _MAYBE_READ:
        cost = None
    return replace(
        record, status=CallStatus.FAILED, usage=error.usage, cost_usd=cost, latency_s=error.latency_s or took_s,
        failure=error.kind, http_status=error.status, detail=error.detail, retry_after_s=error.retry_after_s,
    )  # fmt: skip


def reused(answer: ModelAnswer, status: CallStatus, want: Want, *, number: int, took_s: float) -> CallRecord:
    """The record of an answer that somebody else pays, or that was paid before: it costs nothing.

    Its latency is `took_s`, how long it took to find or to wait for it.
    """
    return CallRecord(
        answer.request_id, answer.model, answer.gateway, status, number, 0,
        model_version=answer.model_version, scripted=answer.scripted, text=answer.text, finish=answer.finish,
        usage=answer.usage, cost_usd=Decimal(0), latency_s=took_s,
        temperature=want.temperature, top_p=want.top_p,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What the gate is told about a call."""

    outcome: Outcome
    sent: bool = True
    tokens: int = 0
    limited: bool = False
    pause_s: float = 0.0
    why: str = ""


NOT_SENT = Report("abandoned", sent=False)
#: Nobody knows what became of it; its tokens are taken as none, its request as one.
CUT_OFF = Report("abandoned")


def report_of(
    asked: Asked, input_tokens: int, pause_s: float, cut_short: bool, settings: ModelSettings
) -> Report:
    """What a call's end means for the gate.

    `pause_s` is what the gateway asked for, `cut_short` whether the job's own deadline ended the call.
    """
    error, usage = asked.error, asked.record.usage
    if error is None:
        return Report("success", tokens=usage.total if usage else 0)
    tokens = usage.total if usage else input_tokens if error.kind in _MAYBE_READ else 0
    outcome: Outcome = "answered"
    if error.kind in _FATAL:
        outcome = "fatal"
    elif error.kind is Failure.TIMEOUT and cut_short:
        outcome = "abandoned"
    elif error.kind in settings.breaker_kinds:
        outcome = "failure"
    return Report(outcome, True, tokens, error.kind is Failure.RATE_LIMITED, pause_s, str(error.kind))
