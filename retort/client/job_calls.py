"""Calls about jobs: submit, wait, read, follow, end, run again."""

import json
import math
import time
from datetime import datetime
from os import PathLike
from types import EllipsisType
from typing import Any

import httpx
from httpx_sse import ServerSentEvent
from typing_extensions import Unpack

from retort.client.errors import RetortError, StillRunning
from retort.client.exchange import PATIENCE_S, backoff, once, time_of
from retort.client.file_calls import FileCalls, id_of
from retort.client.requests import InlineFiles, Options, TaskOptions, body_of, code_of
from retort.client.results import Attempt, Event, Job
from retort.client.steps import Give, Next, Open, Request, Sleep, Steps, Stream, call, stream

#: The longest that the service is asked to wait at once.
WAIT_S = 30
#: A quiet stream has a sign of life every 15 s.
_SILENCE_S = 30.0

Seconds = float | EllipsisType | None


class JobCalls(FileCalls):
    """What is done with jobs."""

    @call
    def run(
        self,
        code: str | PathLike[str],
        *,
        timeout_s: Seconds = ...,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Steps[Job]:
        """Run code and return the job when it has ended. A path's name tells the language.

        >>> with Retort() as client:
        ...     job = client.run("import sys; print(sum(map(int, sys.stdin)))", stdin="1\\n2\\n")
        ...     print(job.verdict, job.stdout)
        ok 3
        <BLANKLINE>

        That a program fails is a result, no exception; `must_succeed` makes it one:

        >>> with Retort() as client:
        ...     client.run("1 / 0").must_succeed()
        Traceback (most recent call last):
        retort.client.errors.ProgramFailed: job ...: error: ZeroDivisionError: division by zero

        Args:
            code: the program, or the path of its file.
            timeout_s: how long to wait for its end; by default the configuration's. The program's own limit is
                `limits={"timeout_s": …}`.
            idempotency_key: by default a new one for each call.
            options: `language`, `limits`, `stdin`, `args`, `env`, `files`, `profile`, …: docs/api.md.

        Raises:
            StillRunning: it had not ended in time; it goes on.
            Refused: the service did not take it.
        """
        body = body_of(options, code_of(code), cache=self.config.cache)
        files = yield from self._files(options.get("files") or {})
        return (yield from self._submit_and_wait(body, files, idempotency_key, timeout_s))

    @call
    def ask(
        self,
        task: str,
        *,
        timeout_s: Seconds = ...,
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Steps[Job]:
        """Have a model write a program for a task, and return the job when the task has ended.

        `check` is test code (or the path of a file with it), `expect` what must be printed; without either a
        program that ran is all that is known. `files` are for the program; models see names and sizes alone.

        >>> with Retort() as client:
        ...     job = client.ask("Count the primes up to 100,000, and print the last of them.")
        ...     print(job.outcome, job.stdout)
        ran 9592 99991
        <BLANKLINE>

        Raises:
            StillRunning: it had not ended in time; it goes on.
            NoGateway: the service has no model.
            Refused: the service did not take it.
        """
        body = body_of(options, {"task": task}, cache=self.config.cache)
        files = yield from self._files(options.get("files") or {})
        return (yield from self._submit_and_wait(body, files, idempotency_key, timeout_s))

    @call
    def submit(
        self,
        code: str | PathLike[str] | None = None,
        *,
        task: str | None = None,
        wait_s: int = 0,
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Steps[Job]:
        """Submit code or a task, and return the job as it is then: mostly `queued`.

        With `wait_s` the answer is given when the job has ended, or after so many seconds, 60 at most.

        >>> with Retort() as client:
        ...     jobs = [client.submit(f"print({n} * 11)") for n in range(3)]
        ...     print([int(client.wait(job).stdout) for job in jobs])
        [0, 11, 22]
        """
        if (code is None) == (task is None):
            raise ValueError("give code or task, one of them")
        source = {"task": task} if code is None else code_of(code)
        body = body_of(options, source, cache=self.config.cache)
        files = yield from self._files(options.get("files") or {})
        return (yield from self._submit(body, files, idempotency_key, wait_s))

    def _submit(
        self,
        body: dict[str, Any],
        files: InlineFiles,
        key: str | None,
        wait_s: int,
        path: str = "/v1/jobs",
    ) -> Steps[Job]:
        prefer = {"Prefer": f"wait={wait_s}"} if wait_s > 0 else {}
        sent = {**body, "files": files} if files else body
        headers = {**once(key), **prefer}
        return (yield from self._read(Job, "POST", path, json=sent, headers=headers, wait_s=wait_s))

    def _submit_and_wait(
        self, body: dict[str, Any], files: InlineFiles, key: str | None, timeout_s: Seconds
    ) -> Steps[Job]:
        began = time.monotonic()
        seconds = self._seconds(timeout_s)
        job = yield from self._submit(body, files, key, WAIT_S if seconds is None else _whole(seconds))
        return (yield from self._wait(job, seconds, began))

    def _seconds(self, timeout_s: Seconds) -> float | None:
        return self.config.timeout_s if isinstance(timeout_s, EllipsisType) else timeout_s

    @call
    def get(self, job: Job | str, *, wait_s: int = 0, inline: int | None = None) -> Steps[Job]:
        """The job as it stands, or, with `wait_s`, when it has ended or so many seconds have passed.

        `inline` asks for contents of artifacts as base64, as far as so many bytes go.

        Raises:
            NotFound: there is none of this id.
        """
        return (yield from self._get(job, wait_s, inline))

    def _get(self, job: Job | str, wait_s: int = 0, inline: int | None = None) -> Steps[Job]:
        params = {"wait": wait_s or None, "inline": inline}
        path = f"/v1/jobs/{id_of(job)}"
        return (yield from self._read(Job, "GET", path, params=params, wait_s=wait_s, patience_s=PATIENCE_S))

    @call
    def wait(self, job: Job | str, *, timeout_s: Seconds = ...) -> Steps[Job]:
        """The job, when it has ended.

        Raises:
            StillRunning: it had not in time; it goes on.
        """
        began = time.monotonic()
        if isinstance(job, str):
            job = yield from self._get(job)
        return (yield from self._wait(job, self._seconds(timeout_s), began))

    def _wait(self, job: Job, timeout_s: float | None, began: float) -> Steps[Job]:
        while not job.ended:
            now = time.monotonic()
            left = math.inf if timeout_s is None else timeout_s - (now - began)
            if left <= 0:
                raise StillRunning(job, timeout_s or 0)
            asked = _whole(left)
            job = yield from self._get(job, asked)
            if not job.ended and time.monotonic() - now < min(0.5, asked):
                yield Sleep(0.5)  # too many wait already, and we were not allowed to
        return job

    @stream
    def list(
        self,
        *,
        state: str | None = None,
        verdict: str | None = None,
        language: str | None = None,
        model: str | None = None,
        label: str | None = None,
        batch: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        text: str | None = None,
        page_size: int | None = None,
    ) -> Stream[Job]:
        """Your jobs, newest first, without code and outputs. Pages are fetched as they are needed.

        `label` is `NAME` or `NAME=VALUE`; `text` is looked for in code, task and reason; `batch` is
        the id of one. Times without a zone are local.

        >>> with Retort() as client:
        ...     job = client.run("print(1)", labels={"for": "docs"})
        ...     newest = next(client.list(label="for=docs", state="finished"))
        ...     print(newest.id == job.id)
        True
        """
        narrowed = {"state": state, "verdict": verdict, "language": language, "model": model}
        times = {"since": time_of(since), "until": time_of(until)}
        params: dict[str, Any] = {
            **narrowed,
            **times,
            "label": label,
            "batch": batch,
            "text": text,
            "limit": page_size,
        }
        while True:
            page = self._document((yield from self._send("GET", "/v1/jobs", params=params)))
            for each in page["jobs"]:
                yield Give(Job.of(each))
            params["cursor"] = page.get("next_cursor")
            if not params["cursor"]:
                return

    @stream
    def events(self, job: Job | str, *, after: str | None = None) -> Stream[Event]:
        """What happens to a job, from its beginning to its end, as it happens.

        A connection that is cut is opened again, and the stream goes on behind the last event, without loss or
        repetition. `after` is the id of an event to go on behind.

        >>> with Retort() as client:
        ...     for event in client.events(client.submit("print('hello')")):
        ...         if event.kind in ("stdout", "done"):
        ...             print(event.kind, event.data.get("text") or event.data["verdict"])
        stdout hello
        <BLANKLINE>
        done ok

        Raises:
            NotFound: there is no such job.
            Unreachable: the service stays away.
        """
        path = f"/v1/jobs/{id_of(job)}/events"
        tries, lost = 0, time.monotonic()
        while True:
            place = {"Last-Event-ID": after} if after else {}
            headers = {"Accept": "text/event-stream", **place}
            error: RetortError
            pause = 0.0
            try:
                answer: httpx.Response = yield Open(
                    Request("GET", path, headers=headers, answer_s=self.config.answer_s + _SILENCE_S)
                )
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                if answer.status_code != httpx.codes.OK:
                    error = self._refused(answer)
                    if answer.status_code < 500 and answer.status_code != 429:
                        raise error
                    pause = getattr(error, "retry_after_s", None) or 0.0
                else:
                    while (told := (yield Next())) is not None:
                        if not told.data:
                            continue  # a comment, by which the service shows that it is there
                        event = self._event(answer, told)
                        tries, lost = 0, time.monotonic()
                        yield Give(event)
                        after = event.id
                        if event.kind == "done":
                            return
                    error = self._unreachable(RuntimeError("the stream of events ended early"))
            except httpx.HTTPError as reason:
                error = self._unreachable(reason)
            tries += 1
            if tries > self.config.max_retries and time.monotonic() - lost > PATIENCE_S:
                raise error
            yield Sleep(max(pause, backoff(min(tries, 4))))

    def _event(self, answer: httpx.Response, told: ServerSentEvent) -> Event:
        try:
            data = json.loads(told.data)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._unexpected(answer)
        return Event.of({"id": told.id, "kind": told.event, "data": data})

    @call
    def attempt(self, job: Job | str, number: int) -> Steps[Attempt]:
        """One attempt in full, with its outputs and the calls of models that led to it.

        Raises:
            NotFound: there is no such job or attempt.
        """
        return (yield from self._read(Attempt, "GET", f"/v1/jobs/{id_of(job)}/attempts/{number}"))

    @call
    def cancel(self, job: Job | str) -> Steps[Job]:
        """End a job that has not ended. What runs is killed within a second, and no result is ever recorded.

        Raises:
            JobEnded: it had ended before.
            NotFound: there is none of this id.
        """
        return (yield from self._read(Job, "POST", f"/v1/jobs/{id_of(job)}/cancel"))

    @call
    def rerun(
        self,
        job: Job | str,
        *,
        wait_s: int = 0,
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Steps[Job]:
        """Submit a job again, with what is given here in place of what it had, and return the new one.

        >>> with Retort() as client:
        ...     job = client.run("print(input())", stdin="once", limits={"timeout_s": 7})
        ...     again = client.wait(client.rerun(job, stdin="again"))
        ...     print(again.stdout.strip(), again.limits.timeout_s, again.rerun_of == job.id)
        again 7.0 True
        """
        files = yield from self._files(options.get("files") or {})
        body = body_of(options, {})
        path = f"/v1/jobs/{id_of(job)}/rerun"
        return (yield from self._submit(body, files, idempotency_key, wait_s, path))

    @call
    def delete(self, job: Job | str) -> Steps[None]:
        """Delete a job that has ended, with its attempts and everything that it left.

        Raises:
            JobUnfinished: it has not ended; cancel it first.
            NotFound: there is none of this id.
        """
        yield from self._send("DELETE", f"/v1/jobs/{id_of(job)}")


def _whole(seconds: float) -> int:
    """Seconds that the service may be asked to wait, of those that are left."""
    return max(0, math.ceil(min(WAIT_S, seconds)))
