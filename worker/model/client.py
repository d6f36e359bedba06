"""The only door to model gateways: one aiohttp session per process.

Every wait has a deadline and every answer a most number of bytes. Whatever arrives is read totally: it becomes
an answer or a `ModelError` of one kind, and no key is in either.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import orjson

from worker.model import failures
from worker.model.dialects.anthropic import Anthropic
from worker.model.dialects.base import (
    Dialect,
    Malformed,
    Reader,
    Reply,
    Reported,
    a_cost,
    estimated_usage,
    parse_object,
)
from worker.model.dialects.openai import OpenAI
from worker.model.failures import Classified
from worker.model.gateways import Gateway, Served
from worker.model.sse import Events
from worker.model.types import Failure, Finish, ModelAnswer, ModelCall, ModelError, Usage

DIALECTS: dict[str, Dialect] = {"openai": OpenAI(), "anthropic": Anthropic()}

#: Bytes of an error's body that are looked at.
MOST_ERROR_BYTES = 64 * 1024

#: Seconds given to that body. Its status says most of what there is to know.
ERROR_S = 5.0

#: Seconds given to a finished stream to close, so that its connection can serve another call.
FAREWELL_S = 0.05

#: How a stream of events begins, and what may stand before it or before an object: a byte order mark, blanks.
_STREAM = (b"data:", b"event:", b":", b"id:", b"retry:")
_BLANK = b"\xef\xbb\xbf \t\r\n"

#: By this header, or a version that begins with this word, a scripted model says that it is one.
SCRIPTED_HEADER = "x-retort-scripted"
SCRIPTED_VERSION = "scripted"


class GatewayClient:
    """Asks gateways. Used as `async with GatewayClient() as client`, in one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "retort", "Accept-Encoding": "identity"},
            # Deadlines are kept here, per call; buckets and breakers elsewhere bound how many calls there are.
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        gateway: Gateway,
        call: ModelCall,
        *,
        request_id: str,
        deadline_s: float,
    ) -> ModelAnswer:
        """The model's answer, within `deadline_s` seconds and the gateway's own deadlines.

        Raises:
            ModelError: there is no answer; its kind says what may help.
        """
        if self._session is None:
            raise RuntimeError("the client is not open; use it with `async with`")
        served = _checked(gateway, call, request_id)
        return await _Call(self._session, gateway, served, call, request_id, deadline_s).run()


def _checked(gateway: Gateway, call: ModelCall, request_id: str) -> Served:
    """How the gateway calls the model, if it may be asked so."""

    def refused(kind: Failure, detail: str) -> ModelError:
        return ModelError(kind, detail, gateway=gateway.name, model=call.model, request_id=request_id)

    served = gateway.models.get(call.model)
    if served is None:
        raise refused(Failure.NOT_FOUND, f"the gateway {gateway.name} does not serve {call.model}")
    allowed = gateway.temperature_range
    if call.temperature is not None and allowed is not None and "temperature" not in served.drops:
        least, most = allowed
        if not least <= call.temperature <= most:
            raise refused(
                Failure.BAD_REQUEST,
                f"temperature must be from {least:g} to {most:g} at the gateway {gateway.name}",
            )
    return served


def _says_nothing(head: bytes) -> bool:
    """Whether the beginning of an answer is too short to tell its form."""
    return not head or any(len(head) < len(word) and word.startswith(head) for word in _STREAM)


@dataclass(slots=True)
class _Clock:
    """The deadlines of one call: the timer is set anew at each step, never beyond the last."""

    timer: asyncio.Timeout
    last: float
    waiting_for: str = ""

    def wait(self, what: str, seconds: float) -> None:
        """From now on at most so many seconds for this."""
        now = asyncio.get_running_loop().time()
        self.timer.reschedule(min(self.last, now + seconds))
        self.waiting_for = f"{what} within {seconds:g} s" if now + seconds < self.last else "the end in time"


class _Call:
    """One call: sends, reads, and says what became of it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        gateway: Gateway,
        served: Served,
        call: ModelCall,
        request_id: str,
        deadline_s: float,
    ) -> None:
        self._session = session
        self._gateway = gateway
        self._served = served
        self._call = call
        self._request_id = request_id
        self._key = None if gateway.key is None else gateway.key.current()
        self._total_s = min(deadline_s, gateway.deadlines.total_s)
        self._dialect = DIALECTS[gateway.dialect]
        self._reader: Reader = self._dialect.reader()
        self._began = time.monotonic()
        self._first_byte_s = 0.0
        self._bytes = 0
        self._headers: dict[str, str] = {}

    async def run(self) -> ModelAnswer:
        """The answer.

        Raises:
            ModelError
        """
        loop = asyncio.get_running_loop()
        clock: _Clock | None = None
        with self._translated():
            try:
                async with asyncio.timeout_at(loop.time() + self._total_s) as timer:
                    clock = _Clock(timer, loop.time() + self._total_s)
                    await self._exchange(clock)
            except TimeoutError as error:
                if self._reader.reply.finish is None:
                    if isinstance(error, aiohttp.ConnectionTimeoutError):
                        missing = f"a connection within {self._gateway.deadlines.connect_s:g} s"
                    else:
                        missing = clock.waiting_for if clock else ""
                    raise self._error(Failure.TIMEOUT, f"waited in vain for {missing}") from None
                # It said that it had finished; only the connection's end is missing.
        return self._answer()

    async def _exchange(self, clock: _Clock) -> None:
        deadlines, key = self._gateway.deadlines, self._key
        try:
            body = orjson.dumps(self._dialect.body(self._gateway, self._served, self._call))
        except TypeError:
            raise self._error(Failure.BAD_REQUEST, "the question has characters that UTF-8 does not") from None
        clock.wait("the first byte", deadlines.first_byte_s)
        response = await self._session.post(
            self._dialect.path(self._gateway.url),
            data=body,
            headers={
                "Content-Type": "application/json",
                "X-Request-ID": self._request_id,
                **self._dialect.headers(None if key is None else key.reveal()),
            },
            allow_redirects=False,  # the key is for this address alone
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=deadlines.connect_s),
        )
        try:
            self._headers = {name.lower(): value for name, value in response.headers.items()}
            if response.status >= 400:
                raise self._classified(await self._refusal(response, clock))
            if response.status != 200:
                raise self._error(
                    Failure.BAD_REQUEST,
                    "the gateway answers neither with an answer nor with an error; is its base URL right?",
                    response.status,
                )
            await self._read(response, clock)
        finally:
            response.close()  # does nothing to a connection that was read to its end

    async def _refusal(self, response: aiohttp.ClientResponse, clock: _Clock) -> Classified:
        """What an error's status, headers and body mean. A body that does not come is no reason to wait."""
        data = bytearray()
        clock.wait("the error's text", 2 * ERROR_S)
        try:
            async with asyncio.timeout(ERROR_S):
                while len(data) < MOST_ERROR_BYTES and (chunk := await response.content.readany()):
                    data += chunk
        except (TimeoutError, aiohttp.ClientError):
            pass
        return failures.of_body(
            response.status,
            self._headers,
            bytes(data),
            now=time.time(),
            redact=self._redact,
        )

    async def _read(self, response: aiohttp.ClientResponse, clock: _Clock) -> None:
        """Read the answer, whichever of the two forms it has: some gateways answer otherwise than asked."""
        head = b""
        while _says_nothing(head) and (chunk := await self._chunk(response, clock)):
            head = (head + chunk).lstrip(_BLANK)  # blank lines are how some say that they are still at it
        if head.startswith(b"{"):
            parts = [head]
            while chunk := await self._chunk(response, clock):
                parts.append(chunk)
            self._reader.document(parse_object(b"".join(parts)))
        elif head.startswith(_STREAM):
            await self._read_stream(response, clock, head)
        elif not head:
            raise Malformed("the answer is empty")
        elif head.startswith(b"<"):
            raise Malformed("the answer is a page, not JSON; is the gateway's base URL right?")
        else:
            raise Malformed("the answer is neither JSON nor a stream of events")

    async def _read_stream(self, response: aiohttp.ClientResponse, clock: _Clock, head: bytes) -> None:
        events, chunk = Events(), head
        while chunk:
            for name, data in events.feed(chunk):
                self._reader.event(name, data)
                if self._reader.reply.ended:
                    await self._farewell(response)
                    return
            try:
                chunk = await self._chunk(response, clock)
            except aiohttp.ClientError:
                if self._reader.reply.finish is None:
                    raise
                return
        try:
            for name, data in events.close():
                self._reader.event(name, data)
        except Malformed:
            pass  # half an event: the stream was cut, which the missing end says better
        if self._reader.reply.finish is None:
            raise self._error(Failure.CONNECTION, "the stream ended before the answer did")

    async def _chunk(self, response: aiohttp.ClientResponse, clock: _Clock) -> bytes:
        chunk = await response.content.readany()
        self._bytes += len(chunk)
        if not self._first_byte_s:
            self._first_byte_s = time.monotonic() - self._began
        if self._bytes > self._gateway.most_bytes:
            most = self._gateway.most_bytes
            raise self._error(Failure.TOO_LARGE, f"the answer is longer than {most} bytes")
        clock.wait("the next byte", self._gateway.deadlines.idle_s)
        return chunk

    async def _farewell(self, response: aiohttp.ClientResponse) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                while not response.content.at_eof() and self._bytes <= self._gateway.most_bytes:
                    self._bytes += len(await response.content.readany())
        except (TimeoutError, aiohttp.ClientError):
            pass

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Everything that can go wrong, as a ModelError."""
        try:
            yield
        except Reported as error:
            raise self._classified(
                failures.classify(
                    200,
                    self._headers,
                    error.document,
                    now=time.time(),
                    redact=self._redact,
                ),
            ) from None
        except Malformed as error:
            raise self._error(Failure.BAD_RESPONSE, str(error)) from None
        except aiohttp.ClientPayloadError:
            raise self._error(Failure.CONNECTION, "the connection ended before the answer did") from None
        except (aiohttp.ClientResponseError, aiohttp.http_exceptions.HttpProcessingError) as error:
            raise self._error(Failure.BAD_RESPONSE, f"not HTTP as we know it: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            what = str(error) or type(error).__name__
            raise self._error(Failure.CONNECTION, what) from None

    def _classified(self, found: Classified) -> ModelError:
        error = self._error(found.kind, found.detail, found.status)
        error.retry_after_s = found.retry_after_s
        error.should_retry = found.should_retry
        error.hints = found.hints
        return error

    def _error(self, kind: Failure, detail: str, status: int | None = None) -> ModelError:
        reply = self._reader.reply
        return ModelError(
            kind,
            failures.clean(self._redact(detail)),
            status=status,
            gateway=self._gateway.name,
            model=self._call.model,
            request_id=self._request_id,
            latency_s=time.monotonic() - self._began,
            usage=self._usage(reply) if reply.parts or reply.usage else None,
        )

    def _redact(self, text: str) -> str:
        return text if self._key is None else self._key.redact(text)

    def _usage(self, reply: Reply) -> Usage:
        return reply.usage or estimated_usage(self._call, reply.text)

    def _answer(self) -> ModelAnswer:
        reply = self._reader.reply
        version = self._redact(reply.version) or self._served.wire
        return ModelAnswer(
            text=reply.text if self._key is None else self._key.redact_whole(reply.text),
            finish=reply.finish or Finish.LENGTH,
            usage=self._usage(reply),
            model=self._call.model,
            model_version=version,
            gateway=self._gateway.name,
            request_id=self._request_id,
            latency_s=time.monotonic() - self._began,
            first_byte_s=self._first_byte_s,
            scripted=SCRIPTED_HEADER in self._headers or version.startswith(SCRIPTED_VERSION),
            reported_cost_usd=reply.cost or a_cost(self._headers.get("x-litellm-response-cost")),
        )
