"""Doing what the steps of a call say: `Doing` blocks, `AsyncDoing` awaits. Clients differ in nothing else."""

import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Generic

import anyio
import anyio.to_thread
import httpx
from httpx_sse import EventSource, ServerSentEvent

from retort.client.bodies import FileBody, Partial
from retort.client.steps import Give, Next, Open, R, Request, Save, Send, Sleep, Step, Steps, Stream


class Play(Generic[R]):
    """Steps that are being done: `step` is the one to do now, None when all are; then `result` is theirs."""

    def __init__(self, steps: Steps[R] | Stream[Any]) -> None:
        self._steps: Any = steps
        self.step: Step | Give[Any] | None = None
        self.result: Any = None
        self._move(next, steps)

    def came(self, reply: Any) -> None:
        """This came of the step."""
        self._move(self._steps.send, reply)

    def failed(self, error: httpx.HTTPError) -> None:
        """The step failed."""
        self._move(self._steps.throw, error)

    def close(self) -> None:
        """No more of it."""
        self._steps.close()

    def _move(self, how: Any, given: Any) -> None:
        try:
            self.step = how(given)
        except StopIteration as end:
            self.step, self.result = None, end.value


class Doing:
    """Does steps, and blocks meanwhile."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._open: httpx.Response | None = None
        self._parts: Iterator[ServerSentEvent | bytes] = iter(())

    def advance(self, play: Play[Any]) -> None:
        """Do the step that is to be done now."""
        try:
            reply = self._do(play.step)
        except httpx.HTTPError as error:
            play.failed(error)
        else:
            play.came(reply)

    def close(self) -> None:
        """Close the stream that is open, if any."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _do(self, step: Any) -> Any:
        match step:
            case Sleep():
                return time.sleep(step.seconds)
            case Next():
                return next(self._parts, None)
            case Send():
                return self._http.send(built(self._http, step.request))
            case Save():
                return self._save(step)
            case Open():
                return self._begin(step)
        raise AssertionError(step)

    def _save(self, step: Save) -> httpx.Response:
        answer = self._http.send(built(self._http, step.request), stream=True)
        try:
            if not answer.is_success:
                answer.read()
                return answer
            with Partial(step.path) as file:
                for piece in answer.iter_bytes():
                    file.write(piece)
        finally:
            answer.close()
        return answer

    def _begin(self, step: Open) -> httpx.Response:
        self.close()
        answer = self._open = self._http.send(built(self._http, step.request), stream=True)
        if answer.status_code == httpx.codes.OK:
            self._parts = EventSource(answer).iter_sse() if step.events else answer.iter_bytes()
        else:
            answer.read()
        return answer


class AsyncDoing:
    """Does steps, and lets others work meanwhile."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._open: httpx.Response | None = None
        self._parts: AsyncGenerator[ServerSentEvent | bytes, None] | None = None

    async def advance(self, play: Play[Any]) -> None:
        """Do the step that is to be done now."""
        try:
            reply = await self._do(play.step)
        except httpx.HTTPError as error:
            play.failed(error)
        else:
            play.came(reply)

    async def close(self) -> None:
        """Close the stream that is open, if any."""
        if self._parts is not None:
            await self._parts.aclose()
            self._parts = None
        if self._open is not None:
            await self._open.aclose()
            self._open = None

    async def _do(self, step: Any) -> Any:
        match step:
            case Sleep():
                return await anyio.sleep(step.seconds)
            case Next():
                return None if self._parts is None else await anext(self._parts, None)
            case Send():
                return await self._http.send(built(self._http, step.request))
            case Save():
                return await self._save(step)
            case Open():
                return await self._begin(step)
        raise AssertionError(step)

    async def _save(self, step: Save) -> httpx.Response:
        answer = await self._http.send(built(self._http, step.request), stream=True)
        try:
            if not answer.is_success:
                await answer.aread()
                return answer
            with Partial(step.path) as file:
                async for piece in answer.aiter_bytes():
                    await anyio.to_thread.run_sync(file.write, piece)
        finally:
            await answer.aclose()
        return answer

    async def _begin(self, step: Open) -> httpx.Response:
        await self.close()
        answer = self._open = await self._http.send(built(self._http, step.request), stream=True)
        if answer.status_code == httpx.codes.OK:
            # Both are generators, whatever their types say.
            parts: Any = EventSource(answer).aiter_sse() if step.events else answer.aiter_bytes()
            self._parts = parts
        else:
            await answer.aread()
        return answer


def built(http: httpx.Client | httpx.AsyncClient, wanted: Request) -> httpx.Request:
    """The request as httpx sends it."""
    headers = dict(wanted.headers)
    timeout: Any = httpx.USE_CLIENT_DEFAULT
    if wanted.answer_s is not None:
        timeout = httpx.Timeout(http.timeout.connect, read=wanted.answer_s, pool=None)
    if isinstance(wanted.body, bytes) or wanted.body is None:
        return http.build_request(
            wanted.method,
            wanted.path,
            params=wanted.params,
            json=wanted.json,
            content=wanted.body,
            headers=headers,
            timeout=timeout,
        )
    headers["Content-Length"] = str(wanted.body.stat().st_size)
    request = http.build_request(
        wanted.method, wanted.path, params=wanted.params, headers=headers, timeout=timeout
    )
    request.stream = FileBody(wanted.body)
    return request
