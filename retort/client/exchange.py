"""One request and its answer, with all retries: what every call is made of."""

import email.utils
import random
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from pydantic import ValidationError

from retort.client.config import API_KEY, URL, Config
from retort.client.errors import Refused, RetortError, UnexpectedAnswer, Unreachable
from retort.client.results import Answer
from retort.client.steps import Request, Save, Send, Sleep, Steps

A = TypeVar("A", bound=Answer)

BACKOFF_S = 0.25
MOST_BACKOFF_S = 8.0
#: Who is told to come again later than this is not kept waiting: that is for the caller to decide.
MOST_PAUSE_S = 60.0
#: For a service that stopped answering while it has a job of ours; long enough for a restart.
PATIENCE_S = 30.0

AGAIN = frozenset({408, 429, 500, 502, 503, 504})
#: Coming again would not help.
NOT_AGAIN = frozenset({"urn:retort:problem:no-gateway"})
ONCE = "Idempotency-Key"


class Exchange:
    """What the calls of both clients share."""

    def __init__(self, config: Config | None, url: str | None, api_key: str | None) -> None:
        if config is not None and (url is not None or api_key is not None):
            raise ValueError("give a config, or url and api_key, not both")
        #: Where the service is and how this client behaves.
        self.config = config or Config.find(url=url, api_key=api_key)

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        body: bytes | Path | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        patience_s: float = 0.0,
        safe: bool = True,
        save: Path | None = None,
    ) -> Steps[httpx.Response]:
        """Send a request until it is answered with a success.

        `safe` says that it may arrive twice; `patience_s` for how long a service that is away is awaited,
        beyond the retries; `wait_s` what the service itself was asked to wait. `save` is where the body goes.

        Raises:
            RetortError: it is not.
        """
        request = Request(
            method,
            path,
            params={name: _text(value) for name, value in (params or {}).items() if value is not None},
            json=json,
            body=body,
            headers=headers or {},
            answer_s=self.config.answer_s + wait_s,
        )
        tries, lost = 0, None
        while True:
            tries += 1
            try:
                answer: httpx.Response = yield Send(request) if save is None else Save(request, save)
            except httpx.HTTPError as reason:
                error: RetortError = self._unreachable(reason)
                again = safe or isinstance(reason, httpx.ConnectError | httpx.ConnectTimeout)
                pause = 0.0
            else:
                if answer.is_success or (method == "DELETE" and tries > 1 and answer.status_code == 404):
                    return answer
                error = self._refused(answer)
                again = _may_come_again(error, safe=safe)
                pause = getattr(error, "retry_after_s", None) or 0.0
            lost = time.monotonic() if lost is None else lost
            left = tries <= self.config.max_retries or time.monotonic() - lost < patience_s
            if not again or not left or pause > MOST_PAUSE_S:
                raise error
            yield Sleep(max(pause, backoff(tries)))

    def _read(self, kind: type[A], method: str, path: str, **how: Any) -> Steps[A]:
        """The same, for answers of a known kind."""
        answer = yield from self._send(method, path, **how)
        return self._as(kind, answer)

    def _document(self, answer: httpx.Response) -> dict[str, Any]:
        """The JSON object that an answer is."""
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._unexpected(answer)
        return document

    def _as(self, kind: type[A], answer: httpx.Response) -> A:
        try:
            return kind.of(self._document(answer))
        except ValidationError as e:
            raise self._unexpected(answer) from e

    def _refused(self, answer: httpx.Response) -> RetortError:
        try:
            problem = answer.json()
        except ValueError:
            problem = None
        if not isinstance(problem, dict) or "type" not in problem or "title" not in problem:
            return self._unexpected(answer)
        status = answer.status_code
        hint = f" (set {API_KEY}; `retort env` prints it)" if status == 401 and not self.config.api_key else ""
        return Refused.of(problem, status, retry_after(answer.headers.get("retry-after")), hint)

    def _unexpected(self, answer: httpx.Response) -> UnexpectedAnswer:
        status = answer.status_code
        return UnexpectedAnswer(
            status, f"{self.config.url} answered {status}, and not as Retort does; is {URL} right?"
        )

    def _unreachable(self, reason: Exception) -> Unreachable:
        what = str(reason) or type(reason).__name__
        return Unreachable(
            f"{self.config.url} does not answer ({what}). Start one with `retort up`, or set {URL}."
        )


def once(key: str | None) -> dict[str, str]:
    """The header that makes a request safe to repeat."""
    return {ONCE: key or uuid4().hex}


def backoff(tries: int) -> float:
    """Seconds before the next try: doubling, with jitter, so that many clients do not come at once."""
    most = min(BACKOFF_S * 2 ** (tries - 1), MOST_BACKOFF_S)
    return random.uniform(most / 2, most)  # noqa: S311  -- no secret


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for; None where it says nothing.

    >>> retry_after("3"), retry_after("soon"), retry_after("Thu, 01 Jan 1970 00:00:00 GMT")
    (3.0, None, 0.0)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


def time_of(given: datetime | str | None) -> str | None:
    """A time as the service reads it; one without a zone is local."""
    return given.astimezone().isoformat() if isinstance(given, datetime) else given


def _may_come_again(error: RetortError, *, safe: bool) -> bool:
    status = getattr(error, "status", 0)
    # Of a 429 nothing was stored; any other may have been done and not told.
    return status in AGAIN and (safe or status == 429) and getattr(error, "type", "") not in NOT_AGAIN


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
