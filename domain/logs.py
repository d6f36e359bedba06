"""Structured logs: one JSON object a line on stderr, with no API key in it."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from domain.ids import KEY_PREFIX

_KEY = re.compile(re.escape(KEY_PREFIX) + r"[A-Za-z0-9_-]{8,}")

#: Attributes that a log call may add with `extra=`.
EXTRAS = (
    "request_id",
    "caller_id",
    "job_id",
    "attempt",
    "trace_id",
    "container",
    "delivery_id",
    "count",
    "method",
    "path",
    "status",
    "ms",
    "client",
    "stack",
)

#: What all lines of a process have.
_process: dict[str, str] = {}

_NO_IDS: Mapping[str, Any] = {}

#: What all lines of a piece of work have: the ids that it is found by.
_IDS: ContextVar[Mapping[str, Any]] = ContextVar("retort_log_ids", default=_NO_IDS)


@contextmanager
def ids(**values: Any) -> Iterator[None]:
    """Give every line that is logged within the block these of `EXTRAS`, unless it has its own."""
    token = _IDS.set({**_IDS.get(), **values})
    try:
        yield
    finally:
        _IDS.reset(token)


def redact(text: str) -> str:
    """`text` with everything that looks like an API key replaced."""
    return _KEY.sub(KEY_PREFIX + "[redacted]", text) if KEY_PREFIX in text else text


class JsonFormatter(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_process,
        }
        given = _IDS.get()
        for name in EXTRAS:
            value = getattr(record, name, None)
            if value is None:
                value = given.get(name)
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return redact(orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode())


def configure(level: str, service: str = "", instance: str = "") -> None:
    """Send all logs to stderr as JSON, the server's too; `service` and `instance` say whose they are.

    The server's own access log is switched off: it writes query strings, and ours has the request id.
    """
    _process.clear()
    _process.update({name: text for name, text in (("service", service), ("instance", instance)) if text})
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
