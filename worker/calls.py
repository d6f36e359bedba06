"""Calls of models as they are stored, and answers as they are found again."""

from dataclasses import dataclass
from typing import Any

from domain.tasks import Draft
from telemetry import traces, words
from worker import meters
from worker.model.extract import Extracted
from worker.model.types import Finish
from worker.model.want import CallRecord, CallStatus, Choice, Generated


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, asked for just now or found in the database."""

    text: str
    finish: str
    model: str
    choice: dict[str, Any]


@dataclass(slots=True)
class Found:
    """What came of a question; `handed_over`: the job waits for a sandbox already, with this program."""

    answer: Answer
    extracted: Extracted
    handed_over: bool = False


def draft_of(found: Found, code: str) -> Draft:
    """The program as a job keeps it until it has run."""
    return Draft(code, found.answer.model, choice=found.answer.choice)


def answer_of(generated: Generated) -> Answer:
    """The answer that was just given."""
    answer = generated.answer
    return Answer(answer.text, answer.finish, answer.model, choice_document(generated.choice))


def choice_document(choice: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    return {
        "model": choice.model,
        "gateway": choice.gateway,
        "reason": choice.reason,
        "skipped": [
            {"model": each.model, "gateway": each.gateway, "reason": each.reason} for each in choice.skipped
        ],
    }


def stored_answer(row: Any) -> Answer:
    """The answer in a row of `task_statements.ANSWERS`."""
    choice = {
        "model": row.model,
        "gateway": row.gateway,
        "reason": "its answer had been stored before a worker was lost",
        "skipped": [],
    }
    return Answer(row.answer, row.finish or Finish.LENGTH, row.model, choice)


def tell(record: CallRecord) -> None:
    """Count a call, and make it a span below the step's: names, sizes and outcome, no word of either side."""
    meters.called(record)
    usage = record.usage
    traces.record(
        f"{words.CHAT} {record.model}",
        "client",
        record.latency_s,
        {
            words.GEN_AI_OPERATION: words.CHAT,
            words.GEN_AI_PROVIDER: record.gateway,
            words.GEN_AI_REQUEST_MODEL: record.model,
            words.GEN_AI_RESPONSE_MODEL: record.model_version,
            words.GEN_AI_MAX_TOKENS: record.max_tokens,
            words.GEN_AI_TEMPERATURE: record.temperature,
            words.GEN_AI_FINISH: None if record.finish is None else [record.finish.value],
            words.GEN_AI_INPUT_TOKENS: None if usage is None else usage.input_tokens,
            words.GEN_AI_OUTPUT_TOKENS: None if usage is None else usage.output_tokens,
            words.HTTP_STATUS: record.http_status,
            words.REQUEST_ID: record.request_id,
            words.CALL_STATUS: record.status.value,
            words.RETRY: record.retry,
            words.WAITED_S: record.waited_s,
            words.COST_USD: None if record.cost_usd is None else float(record.cost_usd),
        },
        failed=None if record.failure is None else record.failure.value,
    )


def call_columns(record: CallRecord) -> dict[str, Any]:
    """A call's columns of `model_calls`, but for job, round and prompt."""
    usage = record.usage
    return {
        "gateway": record.gateway,
        "model": record.model,
        "model_version": record.model_version,
        "request_id": record.request_id,
        "parameters": {
            "temperature": record.temperature,
            "top_p": record.top_p,
            "max_tokens": record.max_tokens,
            "number": record.number,
            "retry": record.retry,
            "status": record.status.value,
            "waited_s": round(record.waited_s, 6),
        },
        "answer": record.text if record.failure is None else None,
        "finish": record.finish,
        "failure": record.failure,
        "detail": record.detail,
        "status": record.http_status,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
        "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
        "estimated": usage is not None and usage.estimated,
        "price": None if record.price is None else record.price.as_dict(),
        "cost_usd": record.cost_usd,
        "latency_s": record.latency_s,
        "first_byte_s": record.first_byte_s,
        "cache_hit": record.status in (CallStatus.CACHED, CallStatus.SHARED),
        "scripted": record.scripted,
    }
