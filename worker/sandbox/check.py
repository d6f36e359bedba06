"""The shape of one finding about a sandbox."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `limit`: it was tried out, and this names what was proven or not."""

    check: str
    ok: bool
    expected: str
    found: str
    limit: str | None = None
