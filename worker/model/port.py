"""The one way to the models for the rest of the worker."""

from types import TracebackType
from typing import Protocol, Self

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


class AnswerCache(Protocol):
    """Where answers to be used again are kept. Called in the thread that called `generate`.

    A key is the sha256, in hexadecimal, of everything that changes an answer, the caller too; an entry is JSON.
    """

    def get(self, key: str, caller: str) -> str | None:
        """The entry, or None."""

    def put(self, key: str, caller: str, entry: str) -> None:
        """Keep an entry; one that is there already may stay."""


class Models:
    """Every model that can be asked, behind one blocking call. One per worker process; safe in many threads.

    Owns a thread with an event loop, an HTTP session and connections to Redis, from `start` to `close`.
    """

    def start(self) -> None:
        """Start the loop's thread and open the session."""
        raise NotImplementedError

    def close(self) -> None:
        """Cancel what is in flight, hang up everywhere and end the thread."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def generate(self, want: Want) -> Generated:
        """Choose a model, ask it, and give its answer; blocks for at most `want.deadline_s` and a moment.

        Raises:
            NoModel, ContextTooLong: the policy leaves no model.
            BudgetExceeded: the next call could cost more than is left.
            ModelsFailed, DeadlinePassed: all were tried, or time is up.
            Queued: none can be had now; try again from the batch queue.
        """
        raise NotImplementedError
