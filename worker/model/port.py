"""The one way to the models for the rest of the worker: a blocking call, safe in many threads.

Behind it one thread with an event loop asks. What must happen in the caller's own thread (storing each call,
looking into the cache) is handed back to it while it waits: there it may block without holding up anybody
else.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from domain.routing import Routing, load_routing
from worker.model import router
from worker.model.budget import Budgets
from worker.model.client import GatewayClient
from worker.model.doors import Doors, look
from worker.model.flight import Flights
from worker.model.gate import Gate
from worker.model.gateways import Gateways
from worker.model.run import AnswerCache, Run, Tools
from worker.model.settings import ModelSettings
from worker.model.shared import Shared, SharedDown
from worker.model.stats import LiveStats, Stats
from worker.model.want import (
    AUTO,
    BudgetExceeded,
    CallRecord,
    CallStatus,
    Choice,
    ContextTooLong,
    DeadlinePassed,
    Generated,
    GenerateError,
    ModelsFailed,
    NoModel,
    Priority,
    Queued,
    Route,
    Skip,
    Want,
)

__all__ = [
    "AUTO",
    "AnswerCache",
    "BudgetExceeded",
    "CallRecord",
    "CallStatus",
    "Choice",
    "ContextTooLong",
    "DeadlinePassed",
    "GenerateError",
    "Generated",
    "Models",
    "ModelsFailed",
    "NoModel",
    "Priority",
    "Queued",
    "Route",
    "Skip",
    "Want",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for a run to end by itself after its deadline, and for the loop's thread to end.
GRACE_S = 5.0

#: Seconds for a look at the doors.
LOOK_S = 2.0


@dataclass(slots=True)
class _Errand:
    """Something to do in the waiting thread, and where its result is wanted."""

    work: Callable[[], Any]
    result: "asyncio.Future[Any]"


class _Hand:
    """Hands errands from the loop to the thread that waits for the answer."""

    def __init__(self) -> None:
        self.errands: SimpleQueue[_Errand | None] = SimpleQueue()  # None: there will be no more

    async def __call__(self, work: Callable[[], T]) -> T:
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.errands.put(_Errand(work, result))
        return await result


class Models:
    """Every model that can be asked. One per worker process; safe in many threads.

    Owns a thread with an event loop, an HTTP session and connections to Redis, from `start` to `close`.
    """

    def __init__(
        self,
        gateways: Gateways,
        redis_url: str,
        settings: ModelSettings | None = None,
        *,
        cache: AnswerCache | None = None,
        routing: Routing | None = None,
    ) -> None:
        self.gateways = gateways
        self.settings = settings or ModelSettings()
        self.routing = routing or load_routing()
        self._redis_url = redis_url
        self._cache = cache
        self._stats = LiveStats()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._tools: Tools | None = None
        self._runs: set[asyncio.Task[Any] | None] = set()
        self._shared: Shared | None = None

    def start(self) -> None:
        """Start the loop's thread and open what it needs.

        Raises:
            whatever kept it from starting.
        """
        started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="models", daemon=True)
        self._thread.start()
        error = started.get()
        if error is not None:
            self._thread.join()
            self._thread = None
            raise error

    def close(self) -> None:
        """Cancel what is in flight (its callers get `Queued`), hang up everywhere and end the thread."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(3 * GRACE_S)
        if self._thread.is_alive():
            log.error("the models' thread does not end")
        self._thread = self._loop = self._stop = self._tools = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def check(self, want: Want) -> None:
        """Whether the policy leaves a model at all, without asking any.

        Raises:
            NoModel, ContextTooLong, BudgetExceeded: it does not.
        """
        self._plan(want)

    def generate(self, want: Want) -> Generated:
        """Choose a model, ask it, and give its answer; blocks for at most `want.deadline_s` and a moment.

        Raises:
            NoModel, ContextTooLong: the policy leaves no model.
            BudgetExceeded: the next call could cost more than is left.
            ModelsFailed, DeadlinePassed: all were tried, or time is up.
            Queued: none can be had now; try again from the batch queue.
            whatever `want.on_call` raises.
        """
        plan = self._plan(want)
        tools, loop = self._tools, self._loop
        if tools is None or loop is None:
            raise Queued("the worker is stopping")
        hand = _Hand()

        async def story() -> Generated:
            self._runs.add(this := asyncio.current_task())
            try:
                async with asyncio.timeout(want.deadline_s + GRACE_S / 2):
                    return await Run(want, plan, tools, hand).generate()
            finally:
                self._runs.discard(this)
                hand.errands.put(None)

        running = asyncio.run_coroutine_threadsafe(story(), loop)
        try:
            while (errand := hand.errands.get(timeout=want.deadline_s + GRACE_S)) is not None:
                _do(errand, loop)
            return running.result(GRACE_S)
        except (Empty, TimeoutError):
            raise DeadlinePassed("no answer within the deadline") from None
        except CancelledError:
            raise Queued("the worker is stopping") from None
        finally:
            running.cancel()

    def stats(self) -> Stats:
        """What the calls of this process came to."""
        return self._stats.now()

    def doors(self) -> Doors | None:
        """How open the doors to all models are; None where nobody can say now."""
        tools, loop, shared = self._tools, self._loop, self._shared
        if tools is None or loop is None or shared is None:
            return None
        looking = asyncio.run_coroutine_threadsafe(look(self.gateways, tools.gate, shared, self.settings), loop)
        try:
            return looking.result(LOOK_S)
        except (SharedDown, TimeoutError, CancelledError):
            looking.cancel()
            return None

    def _plan(self, want: Want) -> router.Plan:
        return router.plan(
            want, self.gateways, self.routing, allow_unknown_price=self.settings.allow_unknown_price
        )

    def _serve(self, started: "SimpleQueue[BaseException | None]") -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main(started))
        except BaseException as e:  # noqa: BLE001 - whoever started us must not wait for ever
            started.put(e)

    async def _main(self, started: "SimpleQueue[BaseException | None]") -> None:
        async with AsyncExitStack() as stack:
            shared = Shared(self._redis_url, self.settings.redis_timeout_s)
            stack.push_async_callback(shared.close)
            self._shared = shared
            client = await stack.enter_async_context(GatewayClient())
            self._stop = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            self._tools = Tools(
                client,
                Gate(shared, self.settings),
                Budgets(shared, self.settings),
                Flights(shared, self.settings),
                self.settings,
                self._stats,
                self._cache,
            )
            started.put(None)
            await self._stop.wait()
            self._tools = None
            await self._end_runs()

    async def _end_runs(self) -> None:
        """Cancel every run, and let those that leave gate and budget do so."""
        for run in filter(None, self._runs):
            run.cancel()
        for _ in range(2):  # what was cancelled may have started tasks that tell so
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others, timeout=GRACE_S)


def _do(errand: _Errand, loop: asyncio.AbstractEventLoop) -> None:
    """Run an errand in this thread; tell the loop what came of it."""

    def tell(set_result: Callable[[Any], None], value: object) -> None:
        if not errand.result.done():  # else its run was cancelled meanwhile
            set_result(value)

    try:
        value = errand.work()
    except Exception as e:  # noqa: BLE001 - it is raised again where the result is awaited, and so from `generate`
        loop.call_soon_threadsafe(tell, errand.result.set_exception, e)
    else:
        loop.call_soon_threadsafe(tell, errand.result.set_result, value)
