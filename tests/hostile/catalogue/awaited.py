"""Entries whose feature is not built yet. Each becomes a program or a story when it is; none is forgotten.

A test fails when the contract grows a path that one of them waits for.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Awaited:
    """An entry to come. `path`: the part of the HTTP contract whose arrival ends the wait, where there is one."""

    name: str
    what: str
    awaits: str
    path: str | None = None


ENTRIES = [
    Awaited(
        "webhooks_inwards",
        "resolved once, checked, no redirects, metadata always denied",
        "webhooks",
        "/webhooks",
    ),
    Awaited(
        "webhooks_that_hang",
        "retries with back-off, then dead; the job is not held up",
        "webhooks",
        "/webhooks",
    ),
]
