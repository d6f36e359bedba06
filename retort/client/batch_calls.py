"""Calls about batches: many jobs in one request, done when nothing more urgent is."""

import json
import time
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from retort.client.errors import RetortError, StillRunning
from retort.client.exchange import PATIENCE_S, Exchange, once
from retort.client.file_calls import id_of
from retort.client.job_calls import Seconds
from retort.client.results import Batch, Job
from retort.client.steps import Give, Next, Open, Request, Sleep, Steps, Stream, call, stream

NDJSON = "application/x-ndjson"

#: Seconds that the service may take to store all jobs of a batch.
_STORING_S = 300.0
#: Pauses between two looks at a batch grow to this.
_MOST_PAUSE_S = 2.0


class BatchCalls(Exchange):
    """What is done with batches."""

    @call
    def submit_batch(
        self,
        jobs: Iterable[Mapping[str, Any]] | PathLike[str] | bytes,
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[Batch]:
        """Submit many jobs, all of them or none. Each is an object as `POST /v1/jobs` takes it.

        `jobs` may also be lines with one object each, as bytes or as the path of a file.

        >>> with Retort() as client:
        ...     batch = client.submit_batch([{"code": f"print({n} ** 2)"} for n in range(3)])
        ...     print(client.wait_batch(batch).verdicts, [job.stdout for job in client.batch_results(batch)])
        {'ok': 3} ['0\\n', '1\\n', '4\\n']

        Raises:
            Invalid: one of them is wrong; `errors` says which line.
        """
        lines = jobs if isinstance(jobs, bytes) else Path(jobs) if isinstance(jobs, PathLike) else ndjson(jobs)
        return (
            yield from self._read(
                Batch,
                "POST",
                "/v1/batches",
                params={"name": name},
                body=lines,
                headers={"Content-Type": NDJSON, **once(idempotency_key)},
                wait_s=_STORING_S,
            )
        )

    @call
    def get_batch(self, batch: Batch | str) -> Steps[Batch]:
        """How far a batch is.

        Raises:
            NotFound: there is none of this id.
        """
        return (yield from self._get_batch(batch))

    def _get_batch(self, batch: Batch | str) -> Steps[Batch]:
        return (yield from self._read(Batch, "GET", f"/v1/batches/{id_of(batch)}", patience_s=PATIENCE_S))

    @call
    def wait_batch(self, batch: Batch | str, *, timeout_s: Seconds = ...) -> Steps[Batch]:
        """The batch, when all its jobs have ended.

        Raises:
            StillRunning: they have not in time; they go on.
        """
        began, pause = time.monotonic(), 0.1
        seconds = self.config.timeout_s if timeout_s is ... else timeout_s
        while True:
            found = yield from self._get_batch(batch)
            if found.ended:
                return found
            if seconds is not None and time.monotonic() - began >= seconds:
                raise StillRunning(found, seconds)
            yield Sleep(pause)
            pause = min(pause * 1.5, _MOST_PAUSE_S)

    @stream
    def batch_results(self, batch: Batch | str) -> Stream[Job]:
        """The jobs of a batch that have ended, in the order of the batch; `index` is the place of each, from 0.

        Raises:
            NotFound: there is none of this id.
            Unreachable: the connection ended before the results did.
        """
        request = Request("GET", f"/v1/batches/{id_of(batch)}/results", answer_s=self.config.answer_s)
        left = b""
        try:
            answer: httpx.Response = yield Open(request, events=False)
            if not answer.is_success:
                raise self._refused(answer)
            while (piece := (yield Next())) is not None:
                *whole, left = (left + piece).split(b"\n")
                for line in whole:
                    yield Give(self._line(answer, line))
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason
        if left:
            yield Give(self._line(answer, left))

    def _line(self, answer: httpx.Response, line: bytes) -> Job:
        try:
            return Job.of(json.loads(line))
        except (ValueError, ValidationError):
            raise self._unexpected(answer) from None

    @call
    def cancel_batch(self, batch: Batch | str) -> Steps[Batch]:
        """End all jobs of a batch that have not ended.

        Raises:
            NotFound: there is none of this id.
        """
        return (yield from self._read(Batch, "POST", f"/v1/batches/{id_of(batch)}/cancel"))

    @call
    def delete_batch(self, batch: Batch | str) -> Steps[None]:
        """Delete a batch with its jobs and everything that they left.

        Raises:
            JobUnfinished: some have not ended; cancel it first.
            NotFound: there is none of this id.
        """
        yield from self._send("DELETE", f"/v1/batches/{id_of(batch)}")


def ndjson(jobs: Iterable[Mapping[str, Any]]) -> bytes:
    """Jobs as the lines of a batch.

    Raises:
        RetortError: there is none.
    """
    lines = [json.dumps(dict(job), ensure_ascii=False) for job in jobs]
    if not lines:
        raise RetortError("a batch has one job at least")
    return "\n".join([*lines, ""]).encode()
