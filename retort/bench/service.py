"""The service as a benchmark reaches it: submit and wait, read. Nothing else here speaks HTTP."""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from retort.client import FINAL_STATES, Config, Refused, UnexpectedAnswer, Unreachable

WAIT_S = 60  # one long poll
BETWEEN_S = 0.05  # two of them: a service for which too many wait answers at once
PATIENCE_S = 60.0  # for a service that is overloaded, or away
FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 5.0

Document = dict[str, Any]


class BenchClient:
    """A connection to one service, for many jobs at the same time."""

    def __init__(
        self, service: Config, connections: int, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"User-Agent": "retort-bench"}
        if service.api_key:
            headers["Authorization"] = f"Bearer {service.api_key}"
        local = httpx.URL(service.url).host in ("127.0.0.1", "::1", "localhost")
        self._url = service.url
        self._reached = False
        self._http = httpx.AsyncClient(
            base_url=service.url,
            headers=headers,
            timeout=httpx.Timeout(10.0, read=WAIT_S + 30.0, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
            trust_env=not local,
        )

    async def __aenter__(self) -> "BenchClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def run(self, request: Mapping[str, Any], key: str) -> tuple[Document, float | None]:
        """Submit a job under an idempotency key and wait for its end: the job, and seconds from its submission.

        Waiting until the service takes it does not count. None: it had been submitted before, so that the
        time is not ours to tell.

        Raises:
            Refused, Unreachable: there is no such job.
        """
        headers = {"Prefer": f"wait={WAIT_S}", "Idempotency-Key": key}
        answer, begin, repeated = await self._patiently("POST", "/v1/jobs", json=dict(request), headers=headers)
        ours = not repeated and answer.headers.get("Idempotency-Replayed") != "true"
        job = self._document(answer)
        while job["state"] not in FINAL_STATES:
            await asyncio.sleep(BETWEEN_S)
            answer, _, _ = await self._patiently("GET", f"/v1/jobs/{job['id']}", params={"wait": WAIT_S})
            job = self._document(answer)
        return job, time.perf_counter() - begin if ours else None

    async def attempt(self, job_id: str, number: int) -> Document:
        """One attempt in full.

        Raises:
            Refused, Unreachable: there is none.
        """
        return await self.get(f"/v1/jobs/{job_id}/attempts/{number}")

    async def get(self, path: str) -> Document:
        """What the service answers.

        Raises:
            Refused, Unreachable: it does not.
        """
        answer, _, _ = await self._patiently("GET", path)
        return self._document(answer)

    async def _patiently(self, method: str, path: str, **more: Any) -> tuple[httpx.Response, float, bool]:
        """The answer, when its request was sent, and whether an earlier one may have had an effect.

        There is patience with a service that answered before; where none ever did, none may be there.
        """
        until = time.monotonic() + PATIENCE_S
        pause, repeated = FIRST_PAUSE_S, False
        while True:
            begin = time.perf_counter()
            wait = pause
            try:
                answer = await self._http.request(method, path, **more)
            except httpx.HTTPError as reason:
                nobody = isinstance(reason, httpx.ConnectError) and not self._reached
                if nobody or time.monotonic() > until:
                    raise Unreachable(f"{self._url} does not answer ({reason!r})") from reason
                repeated = True
            else:
                self._reached = True
                if answer.status_code not in (429, 503) or time.monotonic() > until or _no_gateway(answer):
                    return answer, begin, repeated
                repeated = repeated or answer.status_code == 503
                wait = max(pause, _retry_after(answer))
            await asyncio.sleep(min(wait, MOST_PAUSE_S))
            pause = min(2 * pause, MOST_PAUSE_S)

    def _document(self, answer: httpx.Response) -> Document:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if answer.is_success and isinstance(document, dict):
            return document
        raise explained(self._url, answer.status_code, document)


def explained(url: str, status: int, document: Any) -> Refused | UnexpectedAnswer:
    """A problem document as an exception."""
    if isinstance(document, dict) and "title" in document:
        return Refused.of(document, status)
    return UnexpectedAnswer(status, f"{url} answered {status}, and not as Retort does; is RETORT_URL right?")


def _no_gateway(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and b"no-gateway" in answer.content


def _retry_after(answer: httpx.Response) -> float:
    try:
        return float(answer.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
