"""How long to wait before a message is tried again.

>>> [pause_s(tries, first_s=5, most_s=43200, jitter=1.0) for tries in (1, 2, 3, 8, 10_000)]
[5.0, 20.0, 80.0, 43200.0, 43200.0]
"""

from collections.abc import Mapping

FACTOR = 4.0


def pause_s(tries: int, *, first_s: float, most_s: float, jitter: float) -> float:
    """Seconds after so many tries that failed; `jitter`, from 0 to 1, chooses from half the pause to all."""
    whole = min(most_s, first_s * FACTOR ** min(tries - 1, 100))
    return whole * (1 + jitter) / 2


def asked_pause_s(headers: Mapping[str, str], most_s: float) -> float:
    """What a receiver asks for by `Retry-After`, in seconds; 0 where it asks for nothing that we understand."""
    text = headers.get("Retry-After", "").strip()
    return min(float(text), most_s) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
