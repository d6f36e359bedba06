"""The Python client of a Retort service: docs/client.md.

It talks HTTP as any client does, and needs httpx, httpx-sse and pydantic of all that the service needs.
"""

from retort.client.clients import AsyncRetort, Retort
from retort.client.config import Config
from retort.client.errors import (
    ConfigError,
    ProgramFailed,
    Refused,
    RetortError,
    StillRunning,
    UnexpectedAnswer,
    Unreachable,
)
from retort.client.results import FINAL_STATES, Artifact, Attempt, Event, Job

__all__ = [
    "FINAL_STATES",
    "Artifact",
    "AsyncRetort",
    "Attempt",
    "Config",
    "ConfigError",
    "Event",
    "Job",
    "ProgramFailed",
    "Refused",
    "Retort",
    "RetortError",
    "StillRunning",
    "UnexpectedAnswer",
    "Unreachable",
]
