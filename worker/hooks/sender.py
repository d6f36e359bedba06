"""One message to one receiver, whom nobody trusts: neither where its name leads nor what it answers.

The name is looked up once; every address that it has must be one that may be reached; the connection is made
to those and no others. Redirects are not followed. Of the answer the head is looked at; nothing else is read.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from domain.reach import Address, Reach, literal
from domain.webhooks import check_url
from worker.hooks.pauses import asked_pause_s

#: Look-ups at the same time: the system's resolver blocks, and may take longer than a try.
_RESOLVERS = 32
_MOST_ERROR = 200
_MOST_HEAD = 16 * 1024
_MOST_ASKED_S = 86400.0

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """A message that is not sent to where it should go; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a try: delivered, or an error, perhaps with the status that was answered."""

    status: int | None = None
    error: str | None = None
    gone: bool = False  # the receiver says that it wants no more
    pause_s: float = 0.0  # what it asked for at least


class System:
    """The system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, "resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        """All addresses of a name.

        Raises:
            OSError: it has none, or nobody knows.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]

    def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Pinned(AbstractResolver):
    """Knows one name, and gives the addresses that were looked at."""

    def __init__(self, host: str, addresses: list[Address]) -> None:
        self._host = host
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses; `family` is what the connector would like."""
        if host != self._host:
            raise Refused("the connection would lead elsewhere")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Sender:
    """Sends messages."""

    def __init__(self, reach: Reach, *, http: bool, timeout_s: float, resolve: Resolve) -> None:
        self._reach = reach
        self._http = http
        self._timeout_s = timeout_s
        self._resolve = resolve

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Try once; every failure is an answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(url, headers, body)
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout_s:g} s")
        except Refused as error:
            return Answer(error=f"not sent: {error}")
        except aiohttp.ClientConnectorCertificateError:
            return Answer(error="its certificate is not valid")
        except aiohttp.ClientSSLError:
            return Answer(error="no TLS connection could be made")
        except aiohttp.ClientConnectorError as error:
            return Answer(error=f"no connection: {type(error.os_error).__name__}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=f"the connection failed: {type(error).__name__}"[:_MOST_ERROR])

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:  # again: what may be reached may have changed since it was stored
            check_url(url, self._reach, http=self._http)
        except ValueError as error:
            raise Refused(f"the URL {error}") from None
        target = URL(url)
        host, port = target.raw_host, target.port
        if not host or port is None:
            raise Refused("the URL has no host")
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(host, await self._addresses(host, port)),
            use_dns_cache=False,
            force_close=True,
            limit=1,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),  # ours holds for all of it
            max_line_size=_MOST_HEAD,
            max_field_size=_MOST_HEAD,
            read_bufsize=_MOST_HEAD,
        ) as session:
            answer = await session.post(target, data=body, headers=headers, allow_redirects=False)
            try:
                return _read(answer.status, answer.headers)
            finally:
                answer.close()  # hangs up on whatever follows

    async def _addresses(self, host: str, port: int) -> list[Address]:
        known = literal(host)
        if known is not None:
            found = [known]
        else:
            try:
                texts = await self._resolve(host, port)
            except OSError:
                raise Refused("its name has no address") from None
            found = [address for text in dict.fromkeys(texts) if (address := literal(text)) is not None]
        if not found:
            raise Refused("its name has no address")
        if not all(self._reach.allows(address) for address in found):
            raise Refused("its name leads to an address that nothing is sent to")
        return found


def _read(status: int, headers: Mapping[str, str]) -> Answer:
    if 200 <= status < 300:
        return Answer(status=status)
    pause_s = asked_pause_s(headers, _MOST_ASKED_S)
    if 300 <= status < 400:
        return Answer(status=status, error="it redirects, which is not followed", pause_s=pause_s)
    return Answer(status=status, error=f"it answered with status {status}", gone=status == 410, pause_s=pause_s)
