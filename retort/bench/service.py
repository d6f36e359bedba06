"""The service as a benchmark reaches it: the asynchronous client, and how long a job took."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from retort.client import FINAL_STATES, AsyncRetort, Config, Refused
from retort.client.exchange import NOT_AGAIN, once
from retort.client.steps import Request, Send, Sleep, Steps, call

WAIT_S = 60  # one long poll
BETWEEN_S = 0.05  # two of them: a service for which too many wait answers at once
PATIENCE_S = 60.0  # for a service that is overloaded, or away
FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 5.0

Document = dict[str, Any]


class BenchClient(AsyncRetort):
    """A client for many jobs at the same time, more patient than others with a service that is busy."""

    def __init__(
        self, service: Config, connections: int, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(replace(service, concurrent_requests=connections), transport=transport)
        self._reached = False

    @call
    def measured(self, request: Mapping[str, Any], key: str) -> Steps[tuple[Document, float | None]]:
        """Submit a job under an idempotency key and wait for its end: the job, and seconds from its submission.

        Waiting until the service takes it does not count. None: it had been submitted before, so that the
        time is not ours to tell.

        Raises:
            Refused, Unreachable: there is no such job.
        """
        headers = {"Prefer": f"wait={WAIT_S}", **once(key)}
        submission = self._wanted("POST", "/v1/jobs", json=dict(request), headers=headers)
        answer, began, repeated = yield from self._patiently(submission)
        ours = not repeated and answer.headers.get("Idempotency-Replayed") != "true"
        job = self._document(answer)
        while job["state"] not in FINAL_STATES:
            yield Sleep(BETWEEN_S)
            look = self._wanted("GET", f"/v1/jobs/{job['id']}", params={"wait": str(WAIT_S)})
            answer, _, _ = yield from self._patiently(look)
            job = self._document(answer)
        return job, time.perf_counter() - began if ours else None

    @call
    def tried(self, job_id: str, number: int) -> Steps[Document]:
        """One attempt in full, as the service tells it.

        Raises:
            Refused, Unreachable: there is none.
        """
        path = f"/v1/jobs/{job_id}/attempts/{number}"
        answer, _, _ = yield from self._patiently(self._wanted("GET", path))
        return self._document(answer)

    def _wanted(self, method: str, path: str, **more: Any) -> Request:
        return Request(method, path, answer_s=self.config.answer_s + WAIT_S, **more)

    def _patiently(self, request: Request) -> Steps[tuple[httpx.Response, float, bool]]:
        """The answer, when its request was sent, and whether an earlier one may have had an effect.

        There is patience with a service that answered before; where none ever did, none may be there.
        """
        until = time.monotonic() + PATIENCE_S
        pause, repeated = FIRST_PAUSE_S, False
        while True:
            began = time.perf_counter()
            wait = pause
            try:
                answer: httpx.Response = yield Send(request)
            except httpx.HTTPError as reason:
                nobody = isinstance(reason, httpx.ConnectError) and not self._reached
                if nobody or time.monotonic() > until:
                    raise self._unreachable(reason) from reason
                repeated = True
            else:
                self._reached = True
                if answer.is_success:
                    return answer, began, repeated
                error = self._refused(answer)
                busy = answer.status_code in (429, 503) and getattr(error, "type", "") not in NOT_AGAIN
                if not busy or time.monotonic() > until:
                    raise error
                repeated = repeated or answer.status_code == 503
                if isinstance(error, Refused):
                    wait = max(pause, error.retry_after_s or 0)
            yield Sleep(min(wait, MOST_PAUSE_S))
            pause = min(2 * pause, MOST_PAUSE_S)
