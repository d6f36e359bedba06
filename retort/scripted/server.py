"""The scripted model's HTTP side: both dialects, every way to misbehave, and what it saw."""

import asyncio
import hashlib
import json
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from retort.scripted.dialects import VERSION, Anthropic, Asked, BadRequest, OpenAI, Spoken, count_tokens
from retort.scripted.limits import Limits, Window
from retort.scripted.script import Mode, Said, Scripts, Turn, wanted_language

Dialect = OpenAI | Anthropic

#: Every answer has it, errors too.
HEADER = {"X-Retort-Scripted": "1"}

#: Characters in a piece of a stream.
PIECE = 24

#: Conversations whose failures are remembered.
MOST_CONVERSATIONS = 10_000

#: Requests whose senders are shown.
RECENT = 16

#: Bytes of a request.
MOST_BODY = 32 * 2**20


class Server:
    """One scripted model: plays scripts, keeps limits, counts what it saw."""

    def __init__(self, scripts: Scripts, limits: Limits | None = None, key: str | None = None) -> None:
        self._scripts = scripts
        self._window = Window(limits or Limits())
        self._key = key
        self._failed: OrderedDict[bytes, int] = OrderedDict()
        self._statuses: Counter[int] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0
        self._last: dict[str, Any] = {}
        self._peers: deque[str] = deque(maxlen=RECENT)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(client_max_size=MOST_BODY)
        for prefix in ("", "/v1"):
            app.router.add_post(f"{prefix}/chat/completions", self._handler(OpenAI()))
            app.router.add_post(f"{prefix}/messages", self._handler(Anthropic()))
        app.router.add_get("/health", self._health)
        app.router.add_get("/scripted/seen", self._seen)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, headers=HEADER)

    async def _seen(self, _: web.Request) -> web.Response:
        """What it saw since it started: for tests and the curious."""
        return web.json_response(
            {
                "requests": self._statuses.total(),
                "statuses": dict(self._statuses),
                "recent_peers": list(self._peers),  # requests of one connection have the same
                "in_flight": self._in_flight,
                "most_in_flight": self._most_in_flight,
                "last": self._last,
            },
            headers=HEADER,
        )

    def _handler(self, dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
            if request.transport is not None:
                self._peers.append(str(request.transport.get_extra_info("peername")))
            try:
                response = await self._answer(request, dialect)
            finally:
                self._in_flight -= 1
            self._statuses[response.status] += 1
            return response

        return handle

    async def _answer(self, request: web.Request, dialect: Dialect) -> web.StreamResponse:
        given = request.headers.get("x-api-key") or request.headers.get("Authorization", "").removeprefix(
            "Bearer "
        )
        if self._key is not None and given != self._key:
            return _error(dialect, Turn(status=401, text=f"invalid key: {given}"))
        try:
            body = _object(await request.read())
            asked = dialect.read(body)
        except (BadRequest, ValueError, RecursionError) as error:
            return _error(dialect, Turn(status=400, text=str(error)))
        self._last = {"body": body, "request_id": request.headers.get("X-Request-ID")}
        prompt = count_tokens(asked.system) + sum(count_tokens(each.text) for each in asked.said)
        wait = self._window.take(prompt + asked.max_tokens)
        if wait:
            headers = {"Retry-After": str(int(wait) + 1), "retry-after-ms": str(int(wait * 1000) + 1)}
            return _error(dialect, Turn(status=429, text="Rate limit reached", headers=headers))
        turn = self._turn(asked)
        if turn.delay_s:
            await asyncio.sleep(turn.delay_s)
        if turn.status != 200:
            return _error(dialect, turn)
        return await _play(request, dialect, asked, turn, _spoken(asked, turn, prompt))

    def _turn(self, asked: Asked) -> Turn:
        turn = self._scripts.choose(asked.said).turn(asked.said)
        if not turn.fails:
            return turn
        said = [[each.role, each.text] for each in asked.said]
        which = hashlib.sha256(json.dumps([asked.model, asked.system, said]).encode()).digest()
        failed = self._failed.pop(which, 0)
        self._failed[which] = failed + 1
        while len(self._failed) > MOST_CONVERSATIONS:
            self._failed.popitem(last=False)
        return turn.fails[failed] if failed < len(turn.fails) else turn


def _object(data: bytes) -> dict[str, Any]:
    body = json.loads(data)
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _spoken(asked: Asked, turn: Turn, prompt: int) -> Spoken:
    task = next((each.text for each in asked.said if each.role == "user"), "")
    last: Said | None = asked.said[-1] if asked.said else None
    text = turn.words(wanted_language(asked.system, task, last.text if last else ""))
    finish: str | None = turn.finish
    if count_tokens(text) > asked.max_tokens:  # as a real one: cut off, and honest about it
        text, finish = text.encode()[: 4 * asked.max_tokens].decode("utf-8", "ignore"), "length"
    if turn.mode is Mode.NO_FINISH:
        finish = None
    tokens = (prompt, count_tokens(text)) if turn.usage and asked.wants_usage else None
    return Spoken("scripted-1", VERSION + asked.model, text, finish, tokens)


def _error(dialect: Dialect, turn: Turn) -> web.Response:
    document = dialect.error(
        turn.status, turn.text or f"scripted status {turn.status}", turn.type, turn.error_code
    )
    return web.json_response(document, status=turn.status, headers={**HEADER, **turn.headers})


async def _play(
    request: web.Request,
    dialect: Dialect,
    asked: Asked,
    turn: Turn,
    spoken: Spoken,
) -> web.StreamResponse:
    plain: dict[Mode, tuple[bytes, str]] = {
        Mode.HTML: (b"<!DOCTYPE html><html><body>Sign in</body></html>", "text/html"),
        Mode.MALFORMED: (b'{"choices": [{"message": {"content": "tru', "application/json"),
        Mode.WRONG_SCHEMA: (b'{"answer": 42}', "application/json"),
        Mode.EMPTY: (b"", "application/json"),
    }
    if turn.mode in plain:
        body, kind = plain[turn.mode]
        return web.Response(body=body, content_type=kind, headers={**HEADER, **turn.headers})
    if turn.mode is Mode.LATE_ERROR and not asked.stream:
        return web.json_response(dialect.error(502, "the provider failed", "", "502"), headers=HEADER)
    if turn.mode is Mode.DISCONNECT:
        _hang_up(request)
        return web.Response(status=200)
    if turn.mode is Mode.HANG:
        await asyncio.sleep(3600)
    kind = "text/event-stream" if asked.stream else "application/json"
    response = web.StreamResponse(headers={"Content-Type": kind, **HEADER, **turn.headers})
    await response.prepare(request)
    try:
        async for chunk in _chunks(dialect, asked, turn, spoken):
            await response.write(chunk)
            if turn.gap_s:
                await asyncio.sleep(turn.gap_s)
        if turn.mode is Mode.CUT:
            _hang_up(request)
        else:
            await response.write_eof()
    except ConnectionError:
        pass  # the client has enough
    return response


async def _chunks(dialect: Dialect, asked: Asked, turn: Turn, spoken: Spoken) -> AsyncIterator[bytes]:
    text = spoken.text
    if turn.mode is Mode.HUGE:
        text = "x" * (50 * 2**20)
    size = PIECE if len(text) < 2**20 else 2**16
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    if turn.mode is Mode.HUGE:
        spoken = Spoken(spoken.id, spoken.model, text, spoken.finish, spoken.tokens)
    if asked.stream:
        parts = list(dialect.stream(spoken, pieces))
    else:
        whole = json.dumps(dialect.whole(spoken), ensure_ascii=False).encode()
        parts = [whole[at : at + 2**16] for at in range(0, len(whole), 2**16)]
    if turn.mode is Mode.DRIP:
        for byte in b"".join(parts):
            yield bytes([byte])
            await asyncio.sleep(1)
    elif turn.mode is Mode.KEEPALIVE:
        for _ in range(20):
            yield b": keep-alive\n\n" if asked.stream else b"\n" * 20
        for part in parts:
            yield part
    elif turn.mode is Mode.ENDLESS:
        yield parts[0][:1] if not asked.stream else parts[0]
        while True:
            yield b": go on\n\n" * 1000 if asked.stream else b" " * 8192
    elif turn.mode in (Mode.CUT, Mode.LATE_ERROR):
        half = b"".join(parts[: len(parts) // 2]) if asked.stream else parts[0][: len(parts[0]) // 2]
        yield half
        if turn.mode is Mode.LATE_ERROR:
            yield dialect.late_error()
    else:
        for part in parts:
            yield part


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


@asynccontextmanager
async def serving(server: Server, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve, and give the base URL: `…/v1` for either dialect."""
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
        address = runner.addresses[0]
        yield f"http://{address[0]}:{address[1]}/v1"
    finally:
        await runner.cleanup()


async def serve(server: Server, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until cancelled; `say` is told the base URL."""
    async with serving(server, host, port) as url:
        say(url)
        await asyncio.Event().wait()
