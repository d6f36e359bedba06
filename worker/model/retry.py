"""When and how long to wait before the same call is made again. Pure; chance is passed in."""

from collections.abc import Callable

from worker.model.settings import ModelSettings
from worker.model.types import RETRYABLE, ModelError


def delay(error: ModelError, retry: int, settings: ModelSettings, chance: Callable[[], float]) -> float | None:
    """Seconds to wait after a failed call, or None: the same call is not made again here.

    `retry` is 0 after the first try; `chance` gives a number from 0 to 1. What a gateway asks for is obeyed,
    with the jitter on top, as calls that come back together fail together; if it asks for more than we may
    wait, a fallback is better. A wait of 0 or less is no wish at all.
    """
    if error.kind not in RETRYABLE or retry >= settings.retries:
        return None
    jitter = settings.retry_jitter_s * chance()
    asked = error.retry_after_s
    if asked is not None and asked > 0:
        return None if asked > settings.retry_after_most_s else asked + jitter
    return min(settings.retry_most_s, settings.retry_base_s * settings.retry_factor**retry) + jitter
