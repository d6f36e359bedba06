"""What comes between a process and what it talks to: a proxy that can be cut, go silent, or lose an answer.

All proxies run in one thread with an event loop of its own; their methods may be called from any other.
"""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: Where something listens: a Unix socket, or a port on loopback.
Place = Path | int

_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) (\S+) HTTP/1\.[01]\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Loop:
    """The thread in which proxies run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@dataclass(eq=False)
class Link:
    """One connection: from a client, to the server."""

    ends: tuple[asyncio.StreamWriter, ...]
    muted: bool = False  # what either side says is lost
    cut_on_answer: bool = False

    def cut(self) -> None:
        """End it at both sides at once."""
        for end in self.ends:
            end.transport.abort()


@dataclass
class Rule:
    """What becomes of certain HTTP requests: they wait, or get this answer and go no further.

    `pattern` is looked for in method and path, `times` says how many are concerned (None: all). A `status`
    of 0 lets a request pass, after `wait_s`.
    """

    pattern: str
    status: int = 0
    message: str = "on purpose"
    wait_s: float = 0.0
    times: int | None = None


@dataclass
class Needle:
    """Bytes of a client at which its connection ends: before they are passed on, or instead of the answer."""

    text: bytes
    passed_on: bool  # so that only the answer is lost
    found: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens at a port on loopback, or at a socket, and passes on to `target`."""

    def __init__(self, loop: Loop, target: Place, at: Path | None = None) -> None:
        self._loop = loop
        self._target = target
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._open = asyncio.Event()
        self._open.set()
        self._needle: Needle | None = None
        self._rules: list[Rule] = []
        self.requests: Counter[str] = Counter()  # by the pattern of the rule that they met
        self._server = loop.do(self._listen(at))
        self.port: int = 0 if at is not None else self._server.sockets[0].getsockname()[1]

    async def _listen(self, at: Path | None) -> asyncio.Server:
        if at is not None:
            return await asyncio.start_unix_server(self._accept, at)
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    # --- faults -----------------------------------------------------------------------------------

    def cut(self) -> None:
        """End all connections; new ones are welcome."""
        self._loop.do(self._each(Link.cut))

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """A block in which there is no connection, and none can be made."""
        self._refusing = True
        self.cut()
        try:
            yield
        finally:
            self._refusing = False

    @contextmanager
    def leading_to(self, target: Place) -> Iterator[None]:
        """A block in which it leads elsewhere. Connections that there are at its ends are cut."""
        before, self._target = self._target, target
        self.cut()
        try:
            yield
        finally:
            self._target = before
            self.cut()

    def mute(self) -> None:
        """Lose from now on what goes through the connections there are, and tell nobody; new ones are well."""

        def mute(link: Link) -> None:
            link.muted = True

        self._loop.do(self._each(mute))

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """A block in which nothing gets through, though connections are made; after it everything does."""
        self._loop.do(self._set(open_=False))
        try:
            yield
        finally:
            self._loop.do(self._set(open_=True))

    @contextmanager
    def losing(self, text: bytes, *, passed_on: bool) -> Iterator[Needle]:
        """A block in which the first connection that carries these bytes ends with them.

        `passed_on`: the server gets them, and its answer is lost.
        """
        needle = self._needle = Needle(text, passed_on)
        try:
            yield needle
        finally:
            self._needle = None

    @contextmanager
    def ruled(self, *rules: Rule) -> Iterator[None]:
        """A block in which these rules hold for HTTP requests."""
        self._rules = list(rules)
        try:
            yield
        finally:
            self._rules = []

    def close(self) -> None:
        """Listen no more."""
        self._loop.do(self._close())

    # --- in the loop ------------------------------------------------------------------------------

    async def _each(self, act: Callable[[Link], None]) -> None:
        for link in list(self._links):
            act(link)

    async def _set(self, *, open_: bool) -> None:
        if open_:
            self._open.set()
        else:
            self._open.clear()

    async def _close(self) -> None:
        self._server.close()
        self._open.set()
        await self._each(Link.cut)
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        await self._open.wait()
        if isinstance(self._target, Path):
            from_server, to_server = await asyncio.open_unix_connection(self._target)
        else:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        link = Link((writer, to_server))
        self._links.add(link)
        down = asyncio.ensure_future(self._down(from_server, writer, link))
        try:
            with suppress(OSError):
                await self._up(reader, to_server, writer, link)
            with suppress(OSError):  # what the client began may still be answered
                to_server.write_eof()
            await down
        finally:
            down.cancel()
            self._links.discard(link)
            link.cut()

    async def _up(
        self,
        reader: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        to_client: asyncio.StreamWriter,
        link: Link,
    ) -> None:
        while data := await reader.read(1 << 16):
            await self._open.wait()
            if link.muted:
                continue
            rule = self._rule_of(data)
            if rule is not None:
                await asyncio.sleep(rule.wait_s)
                if rule.status:
                    await self._answer(rule, data, reader, to_client)
                    return
            needle = self._needle
            if needle is not None and not needle.found.is_set() and needle.text in data:
                needle.found.set()
                if not needle.passed_on:
                    link.cut()
                    return
                link.cut_on_answer = True
            to_server.write(data)
            await to_server.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                if link.cut_on_answer:
                    break
                if not link.muted:
                    writer.write(data)
                    await writer.drain()
            else:
                await writer.drain()
        if link.cut_on_answer:
            link.cut()
        elif not link.muted:
            writer.close()

    def _rule_of(self, data: bytes) -> Rule | None:
        if not self._rules or (request := _REQUEST.match(data)) is None:
            return None
        line = f"{request[1].decode()} {request[2].decode()}"
        for rule in self._rules:
            if re.search(rule.pattern, line):
                if rule.times == 0:
                    continue
                if rule.times is not None:
                    rule.times -= 1
                self.requests[rule.pattern] += 1
                return rule
        return None

    async def _answer(
        self, rule: Rule, data: bytes, reader: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Take the rest of the request, and answer it ourselves."""
        head, _, body = data.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        missing = (int(found[1]) if found else 0) - len(body)
        if missing > 0:
            await reader.readexactly(missing)
        said = b'{"message": "%s"}' % rule.message.encode()
        to_client.write(
            b"HTTP/1.1 %d On Purpose\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%s" % (rule.status, len(said), said)
        )
        await to_client.drain()
        to_client.close()
