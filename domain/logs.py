"""Structured logs: one JSON object a line on stderr, with no API key in it."""

import logging
import re
from datetime import UTC, datetime
from typing import Any

import orjson

from domain.ids import KEY_PREFIX

_KEY = re.compile(re.escape(KEY_PREFIX) + r"[A-Za-z0-9_-]{8,}")

#: Attributes that a log call may add with `extra=`.
EXTRAS = ("request_id", "caller_id", "job_id", "container", "count", "method", "path", "status", "ms", "client")


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
        }
        for name in EXTRAS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return redact(orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode())


def configure(level: str) -> None:
    """Send all logs to stderr as JSON, the server's too.

    The server's own access log is switched off: it writes query strings, and ours has the request id.
    """
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
