"""How one description of a call serves a blocking and an asynchronous client.

A call is written once, as a generator: it yields what has to be done (`Send`, `Sleep`, …) and is sent what came
of it. `retort.client.doing` does it, once blocking and once with `await`. The decorators below make methods of
such generators, and tell type checkers what they are in each of the two:

    @call                         Retort: f(…) -> R              AsyncRetort: async f(…) -> R
    def f(self, …) -> Steps[R]

    @stream                       Retort: f(…) -> Iterator[R]    AsyncRetort: f(…) -> AsyncIterator[R]
    def f(self, …) -> Stream[R]
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper, wraps
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the service; `path` is below its address."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    body: bytes | Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_s: float | None = None  # silence that is borne, where it is not the usual


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and read the answer (`httpx.Response`)."""

    request: Request


@dataclass(frozen=True, slots=True)
class Save:
    """Send a request and write the body of the answer (`httpx.Response`) to a file, if it is a success."""

    request: Request
    path: Path


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request whose answer (`httpx.Response`) is a stream, of events or of bytes, if it is a success."""

    request: Request
    events: bool = True


@dataclass(frozen=True, slots=True)
class Next:
    """The next event (`httpx_sse.ServerSentEvent`) or bytes of what was opened last; None at its end."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Give(Generic[R]):
    """Hand something to whoever reads the stream."""

    value: R


Step = Send | Save | Open | Next | Sleep
Steps = Generator[Step, Any, R]
Stream = Generator[Step | Give[R], Any, None]


class Blocking:
    """A client whose calls return when they are done."""

    def _run(self, steps: Steps[R]) -> R:
        raise NotImplementedError

    def _iterate(self, steps: Stream[R]) -> Iterator[R]:
        raise NotImplementedError


class Awaiting:
    """A client whose calls are awaited."""

    async def _run(self, steps: Steps[R]) -> R:
        raise NotImplementedError

    def _iterate(self, steps: Stream[R]) -> AsyncIterator[R]:
        raise NotImplementedError


class call(Generic[P, R]):  # noqa: N801  -- a decorator
    """A method with one result."""

    def __init__(self, make: Callable[Concatenate[Any, P], Steps[R]]) -> None:
        self._make = make
        update_wrapper(self, make)  # type: ignore[arg-type]  # to whoever asks, it is that function

    @overload
    def __get__(self, client: None, kind: Any) -> Callable[Concatenate[Any, P], Steps[R]]: ...

    @overload
    def __get__(self, client: Blocking, kind: Any) -> Callable[P, R]: ...

    @overload
    def __get__(self, client: Awaiting, kind: Any) -> Callable[P, Coroutine[Any, Any, R]]: ...

    def __get__(self, client: Any, kind: Any) -> Any:
        """Ask the class for the description, a client for the method."""
        if client is None:
            return self._make

        @wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._run(self._make(client, *args, **kwargs))

        return method


class stream(Generic[P, R]):  # noqa: N801  -- a decorator
    """A method with any number of results, one after the other."""

    def __init__(self, make: Callable[Concatenate[Any, P], Stream[R]]) -> None:
        self._make = make
        update_wrapper(self, make)  # type: ignore[arg-type]  # to whoever asks, it is that function

    @overload
    def __get__(self, client: None, kind: Any) -> Callable[Concatenate[Any, P], Stream[R]]: ...

    @overload
    def __get__(self, client: Blocking, kind: Any) -> Callable[P, Iterator[R]]: ...

    @overload
    def __get__(self, client: Awaiting, kind: Any) -> Callable[P, AsyncIterator[R]]: ...

    def __get__(self, client: Any, kind: Any) -> Any:
        """Ask the class for the description, a client for the method."""
        if client is None:
            return self._make

        @wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._iterate(self._make(client, *args, **kwargs))

        return method
