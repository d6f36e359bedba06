"""What a gateway's error means. Pure: status, headers and body in, a kind and a safe sentence out.

>>> failure = classify(429, {"retry-after": "2"}, {"error": {"message": "slow down"}}, now=0)
>>> failure.kind, failure.retry_after_s
(<Failure.RATE_LIMITED: 'rate_limited'>, 2.0)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.model import retry_after
from worker.model.dialects.base import Malformed, an_object, parse_object
from worker.model.types import Failure

#: Characters of a gateway's message that we keep.
MOST_DETAIL = 500

KEY_HINTS = (
    "is the key valid, complete, and meant for this gateway?",
    "does this machine reach the gateway directly, with no proxy that changes requests?",
    "is the account active, paid, and allowed to use this model?",
)

#: Error types that stand for a status, where an answer with another status, or a stream, reports one.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout_error": 504,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}

#: Codes and types that mean money, whatever the status.
_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_error",
        "billing_not_active",
        "billing_hard_limit_reached",
        "insufficient_credits",
        "insufficient_balance",
        "payment_required",
        "budget_exceeded",
        "enforced_spend_limit_reached",
        "spend_limit_reached",
    }
)
_QUOTA_TEXT = re.compile(
    r"insufficient[_ ](quota|credit|balance|fund)|credit balance is too low|spend(ing)? limit"
    r"|budget has been exceeded",
    re.IGNORECASE,
)
#: Some say this of an empty account, some of a full minute; the latter say when to come back.
_PERHAPS_QUOTA_TEXT = re.compile(r"exceeded your current quota", re.IGNORECASE)
_CONTEXT_TEXT = re.compile(
    r"context[_ ]length|context[_ ]window|maximum context|prompt is too long|input is too long"
    r"|too many (input )?tokens|reduce the length"
    r"|exceeds? the (model's )?(maximum|max|available) (input|context|token)",
    re.IGNORECASE,
)
_MODEL_TEXT = re.compile(
    r"model[^.]{0,80}(does not exist|not found|is not supported|unknown)|(invalid|unknown|no such) model",
    re.IGNORECASE,
)
_OVERLOADED_TEXT = re.compile(r"overloaded", re.IGNORECASE)


#: Takes keys out of a text: before it is cut, so that no half of one remains.
Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Classified:
    """What an error means."""

    kind: Failure
    detail: str
    status: int | None
    retry_after_s: float | None = None
    should_retry: bool | None = None
    hints: tuple[str, ...] = ()


def classify(
    status: int,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    now: float,
    redact: Redact = str,
) -> Classified:
    """What an error document means; an empty `body` stands for one that was none.

    Args:
        status: HTTP status; 200 where an error came as an answer or in a stream.
        headers: the answer's; names in any case.
        body: the JSON object that came.
        now: seconds since 1970.
        redact: takes keys out of a text.
    """
    error = body.get("error")
    told = error if isinstance(error, dict) else {}
    words = _words(told, body)
    code = str(told.get("code", "")).lower()
    message = _message(error, body)
    if status < 400:
        status = _meant(told, code, status)
    wait = retry_after.seconds(headers, now=now, resets=status == 429)
    lower = {name.lower(): value for name, value in headers.items()}
    said = {"true": True, "false": False}.get(lower.get("x-should-retry", "").strip().lower())
    kind = _kind(status, words, message, waits=wait is not None)
    return Classified(
        kind=kind,
        detail=clean(redact(message)) or f"HTTP {status} without an explanation",
        status=status,
        retry_after_s=wait,
        should_retry=said,
        hints=KEY_HINTS if kind is Failure.AUTH else (),
    )


def of_body(
    status: int,
    headers: Mapping[str, str],
    data: bytes,
    *,
    now: float,
    redact: Redact = str,
) -> Classified:
    """The same for a body as it came, which may be anything."""
    try:
        body = parse_object(data)
    except Malformed:
        found = classify(status, headers, {}, now=now)
        page = data.lstrip()[:1] == b"<"
        what = "a page" if page else "text" if data.strip() else "nothing"
        shown = "" if page else clean(redact(data.decode("utf-8", "replace")))
        detail = f"HTTP {status} with {what} where an error document should be{f': {shown}' if shown else ''}"
        return Classified(
            found.kind,
            detail[:MOST_DETAIL],
            status,
            found.retry_after_s,
            found.should_retry,
            found.hints,
        )
    return classify(status, headers, body, now=now, redact=redact)


def clean(text: str) -> str:
    """A stranger's text for our logs and answers: one line, printable, bounded. Keys are redacted elsewhere."""
    line = " ".join(text[: 4 * MOST_DETAIL].split())
    shown = "".join(c for c in line if c.isprintable())
    return shown if len(shown) <= MOST_DETAIL else f"{shown[: MOST_DETAIL - 1]}…"


def _words(told: Mapping[str, Any], body: Mapping[str, Any]) -> frozenset[str]:
    details = an_object(told.get("details"))
    found = (told.get("code"), told.get("type"), details.get("error_code"), body.get("code"))
    return frozenset(word.lower() for word in found if isinstance(word, str))


def _message(error: object, body: Mapping[str, Any]) -> str:
    if isinstance(error, str):
        return error
    for value in (an_object(error).get("message"), body.get("message"), body.get("detail")):
        if isinstance(value, str) and value:
            return value
    return ""


def _meant(told: Mapping[str, Any], code: str, status: int) -> int:
    """The status that an error in an answer of another status means."""
    if code.isascii() and code.isdigit() and 400 <= int(code[:4]) <= 599:
        return int(code[:4])
    return _STATUS_OF_TYPE.get(str(told.get("type", "")).lower(), 500 if status < 400 else status)


def _kind(status: int, words: frozenset[str], message: str, *, waits: bool) -> Failure:
    if status == 402 or words & _QUOTA_CODES:
        return Failure.QUOTA
    if status < 500:
        if _QUOTA_TEXT.search(message) or (_PERHAPS_QUOTA_TEXT.search(message) and not waits):
            return Failure.QUOTA
        return _client_kind(status, words, message)
    if status in (503, 529) or _OVERLOADED_TEXT.search(message) or "overloaded_error" in words:
        return Failure.OVERLOADED
    return Failure.TIMEOUT if status in (504, 522, 524) else Failure.SERVER


def _client_kind(status: int, words: frozenset[str], message: str) -> Failure:
    if status in (401, 403):
        return Failure.AUTH
    if status == 429:
        return Failure.RATE_LIMITED
    if status == 408:
        return Failure.TIMEOUT
    if status == 413 or "context_length_exceeded" in words or _CONTEXT_TEXT.search(message):
        return Failure.CONTEXT
    if status == 404 or "model_not_found" in words or _MODEL_TEXT.search(message):
        return Failure.NOT_FOUND
    # A conflict is over soon.
    return Failure.SERVER if status in (409, 425) else Failure.BAD_REQUEST
