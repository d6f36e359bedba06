"""How long a client is ready to wait: `Prefer: wait=N` (RFC 7240) and `?wait=N`."""

import re
from collections.abc import Iterable

_WAIT = re.compile(r'wait\s*=\s*(?:"([0-9]{1,9})"|([0-9]{1,9}))', re.IGNORECASE)


def preferred_wait(headers: Iterable[str], most: int) -> int | None:
    """Seconds from the `Prefer` headers, at most `most`; None where there is no such preference.

    What is malformed is ignored, as the RFC wants; of several the first counts.

    >>> preferred_wait(["respond-async, wait=10"], 60)
    10
    >>> preferred_wait(["wait=9999"], 60), preferred_wait(["wait=soon"], 60)
    (60, None)
    """
    for header in headers:
        for preference in header.split(","):
            token = preference.partition(";")[0].strip()
            found = _WAIT.fullmatch(token)
            if found:
                return min(int(found[1] or found[2]), most)
    return None
