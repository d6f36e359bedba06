"""The two clients: the calls of `retort.client.calls`, blocking and asynchronous."""

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import httpx

from retort.client.calls import Calls
from retort.client.config import Config
from retort.client.doing import AsyncDoing, Doing, Play
from retort.client.steps import Awaiting, Blocking, Give, R, Steps, Stream


class Retort(Calls, Blocking):
    """A client of one service. Its calls return when they are done; threads may share it.

    Without arguments it finds the service as the command line does (docs/client.md). Where many are made, close
    them, or use them in a `with` statement.

    >>> with Retort() as client:
    ...     print(client.run("print(6 * 7)").stdout)
    42
    <BLANKLINE>
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        url: str | None = None,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(config, url, api_key)
        self._http = httpx.Client(**self.config.for_httpx(), transport=transport)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[R]) -> R:
        play: Play[R] = Play(steps)
        doing = Doing(self._http)
        while play.step is not None:
            doing.advance(play)
        result: R = play.result
        return result

    def _iterate(self, steps: Stream[R]) -> Iterator[R]:
        play: Play[None] = Play(steps)
        doing = Doing(self._http)
        try:
            while play.step is not None:
                if isinstance(play.step, Give):
                    yield play.step.value
                    play.came(None)
                else:
                    doing.advance(play)
        finally:
            play.close()
            doing.close()


class AsyncRetort(Calls, Awaiting):
    """The same client for programs with an event loop: what `Retort` returns is awaited here.

    >>> import asyncio
    >>> async def main() -> list[int]:
    ...     async with AsyncRetort() as client:
    ...         jobs = await asyncio.gather(*(client.run(f"print({n} ** 2)") for n in range(4)))
    ...     return [int(job.stdout) for job in jobs]
    >>> asyncio.run(main())
    [0, 1, 4, 9]
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        url: str | None = None,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(config, url, api_key)
        self._http = httpx.AsyncClient(**self.config.for_httpx(), transport=transport)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, steps: Steps[R]) -> R:
        play: Play[R] = Play(steps)
        doing = AsyncDoing(self._http)
        while play.step is not None:
            await doing.advance(play)
        result: R = play.result
        return result

    async def _iterate(self, steps: Stream[R]) -> AsyncIterator[R]:
        play: Play[None] = Play(steps)
        doing = AsyncDoing(self._http)
        try:
            while play.step is not None:
                if isinstance(play.step, Give):
                    yield play.step.value
                    play.came(None)
                else:
                    await doing.advance(play)
        finally:
            play.close()
            await doing.close()
