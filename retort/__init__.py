"""What a person runs and imports: the command line, the client, and the supervisor.

    from retort import Retort

    with Retort() as client:
        print(client.run("print(6 * 7)").stdout)

The client is imported when it is first asked for, so that the command line need not wait for it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retort.client import AsyncRetort, Config, Job, Refused, Retort, RetortError

__all__ = ["AsyncRetort", "Config", "Job", "Refused", "Retort", "RetortError"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import retort.client

        return getattr(retort.client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
