"""How values are written for people: times, sizes, money, states. Filters and globals of the templates.

>>> seconds(0.0021), seconds(75), seconds(None)
('2.1 ms', '75.0 s', '-')
>>> size(1536), money("0.00042"), money(None)
('1.5 KiB', '$0.00042', '-')
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from markupsafe import Markup, escape

from api.pages.ansi import ansi
from api.pages.highlight import coloured
from domain.states import FINAL_STATES, State, Verdict

NOTHING = "-"

#: Characters of one output that a page shows; the rest is had through the API.
MOST_SHOWN = 60_000

_TONES = {
    Verdict.OK: "good",
    Verdict.CHECK_FAILED: "check",
    Verdict.NO_CODE: "check",
    Verdict.TIMEOUT: "limit",
    Verdict.OUT_OF_MEMORY: "limit",
    Verdict.OUTPUT_LIMIT: "limit",
    Verdict.DISK_LIMIT: "limit",
}


def tone(word: str | None) -> str:
    """The class of colour of a verdict or a state; what is not a good verdict nor a known other is bad.

    >>> tone("ok"), tone("timeout"), tone("error"), tone("queued"), tone("cancelled"), tone("broken")
    ('good', 'limit', 'bad', 'busy', 'quiet', 'bad')
    """
    if word is None or word == State.CANCELLED:
        return "quiet"
    if word in {State.QUEUED, State.GENERATING, State.RUNNING}:
        return "busy"
    return _TONES.get(Verdict(word), "bad") if word in set(Verdict) else "bad"


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return NOTHING
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 600 else f"{value / 60:.0f} min"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def money(value: str | Decimal | None) -> str:
    """US dollars, as exact as they are known to six places."""
    if value is None:
        return NOTHING
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return NOTHING
    if not amount:
        return "$0"
    if 0 < amount < Decimal("0.000001"):
        return "< $0.000001"
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return f"${text}"


def when(value: datetime | None) -> Markup:
    """A time in UTC, as machines can read it, too."""
    if value is None:
        return escape(NOTHING)
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        at.isoformat(timespec="milliseconds"), f"{at:%Y-%m-%d %H:%M:%S}", _nearby(at)
    )


def _nearby(at: datetime) -> str:
    today = datetime.now(UTC).date() == at.date()
    return f"{at:%H:%M:%S}" if today else f"{at:%Y-%m-%d %H:%M}"


def output(document: Mapping[str, Any], stream: str) -> Markup:
    """A stream of a job's or an attempt's document, coloured as a terminal would show it."""
    text: str = document[stream]
    if document[f"{stream}_encoding"] != "utf-8":
        text = base64.b64decode(text).decode("utf-8", "replace")
    if len(text) > MOST_SHOWN:
        half = MOST_SHOWN // 2
        return (
            ansi(text[:half])
            + Markup('<em class="cut">… {} characters more …</em>').format(len(text) - MOST_SHOWN)
            + ansi(text[-half:])
        )
    return ansi(text)


def status(job: Mapping[str, Any]) -> str:
    """The one word that says most about a job: its verdict, else its state."""
    word: str = job["verdict"] or job["state"]
    return word


def is_final(state: str) -> bool:
    """Whether nothing more happens to a job."""
    return state in FINAL_STATES


def words(name: str) -> str:
    """A word of ours as people write it."""
    return name.replace("_", " ")


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


FILTERS: dict[str, Any] = {
    "seconds": seconds,
    "size": size,
    "money": money,
    "when": when,
    "tone": tone,
    "words": words,
    "coloured": coloured,
    "pretty": pretty,
}
GLOBALS: dict[str, Any] = {"output": output, "status": status, "is_final": is_final}
