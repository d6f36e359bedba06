"""Any text as a literal of each language, or as its source. Pure."""

import base64
import json
from collections.abc import Callable


def _python(text: str) -> str:
    return ascii(text)


def _javascript(text: str) -> str:
    # JSON is JavaScript since ES2019; ASCII keeps line separators and half pairs out of the source.
    return json.dumps(text)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _hexadecimal(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").hex()


def _source(text: str) -> str:
    # Compiled as it stands: the tests are part of the program.
    return text


#: By language; those in which tests can be run.
LITERALS: dict[str, Callable[[str], str]] = {
    "python": _python,
    "javascript": _javascript,
    "bash": _base64,
    "r": _hexadecimal,
    "rust": _source,
}
