"""What an entry of the catalogue is: a hostile program or a hostile story, and what must come of it."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.hostile.stage import Stage

Document = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A finished job."""

    job: Document

    def _stream(self, name: str) -> bytes:
        text: str = self.job[name]
        return base64.b64decode(text) if self.job[f"{name}_encoding"] == "base64" else text.encode()

    @property
    def out(self) -> bytes:
        """What was kept of stdout."""
        return self._stream("stdout")

    @property
    def err(self) -> bytes:
        """What was kept of stderr."""
        return self._stream("stderr")

    @property
    def found(self) -> Any:
        """What a probe printed as its last line, in JSON."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def usage(self) -> Document:
        """What it took."""
        usage: Document = self.job["usage"]
        return usage


@dataclass(frozen=True)
class Program:
    """A program that the hostile caller submits.

    `verdicts` are those that are right, `on_runsc` those where gVisor differs; `stdout` is the whole of it;
    `look` asserts the rest, `look_on_runsc` where gVisor differs (docs/tiers.md says in what). `fast`: also in
    `make test`.
    """

    name: str
    code: str
    verdicts: tuple[str, ...] = ("ok",)
    on_runsc: tuple[str, ...] | None = None
    stdout: str | None = None
    look: Callable[[Result], None] | None = None
    look_on_runsc: Callable[[Result], None] | None = None
    limits: Document = field(default_factory=lambda: {"timeout_s": 20})
    more: Document = field(default_factory=dict)
    fast: bool = False

    def right(self, tier: str) -> tuple[str, ...]:
        """The verdicts that are right on a tier."""
        return self.on_runsc if tier == "runsc" and self.on_runsc is not None else self.verdicts

    def look_on(self, tier: str, result: Result) -> None:
        """Assert what must be so on a tier beyond the verdict, which was found to be right."""
        look = self.look_on_runsc if tier == "runsc" and self.look_on_runsc is not None else self.look
        if look is not None and result.job["verdict"] in self.verdicts:
            look(result)

    def request(self) -> Document:
        """The body of the request."""
        return {"code": self.code, "limits": self.limits, **self.more}


@dataclass(frozen=True)
class Story:
    """Requests that a hostile client makes; `tell` makes them and asserts.

    `keeps`: used cells that the pool may keep afterwards.
    """

    name: str
    tell: Callable[["Stage"], None]
    keeps: int = 0
    fast: bool = False


Entry = Program | Story

#: Begins programs that try many things: `attempt(name, function)` notes its value or the name of its error; the
#: last line they print is all of that.
PROBE = """
import ctypes, errno, json, os, platform, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = platform.machine() == 'aarch64'
found = {}
def attempt(name, function):
    try:
        value = function()
        found[name] = value if isinstance(value, (int, str, list, dict, bool, type(None))) else repr(value)
    except OSError as e:
        found[name] = errno.errorcode.get(e.errno, str(e))
    except BaseException as e:
        found[name] = type(e).__name__
def call(function, *arguments):
    ctypes.set_errno(0)
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = function(*values)
    if result == -1:
        raise OSError(ctypes.get_errno(), 'refused')
    return result
def syscall(x86, arm, *arguments):
    return call(libc.syscall, arm if ARM else x86, *(list(arguments) + [0] * 6)[:6])
def tell():
    print(json.dumps(found))
"""


def probe(body: str) -> str:
    """A program that tries things and prints what came of each."""
    return f"{PROBE}\n{body}\ntell()\n"


def refused(*allowed: str) -> Callable[[Result], None]:
    """Every attempt ended in one of these errors."""

    def look(result: Result) -> None:
        assert result.found, "nothing was tried"
        others = {name: value for name, value in result.found.items() if value not in allowed}
        assert others == {}, f"not refused with {allowed}: {others}"

    return look
