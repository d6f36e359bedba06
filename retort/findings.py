"""The shape of what `retort doctor` finds."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One finding. `ok` is None where it is no failure but a person should know."""

    name: str
    ok: bool | None
    found: str
    todo: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
