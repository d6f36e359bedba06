"""The jobs of a soak: programs that end well and badly, small and large, in every language; and tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A job, and how it must end; `weight`: how often it comes."""

    name: str
    job: dict[str, Any]
    verdict: str
    stdout: str | None = None
    weight: int = 10


SMALL = {"timeout_s": 10, "memory_mb": 64, "output_bytes": 65536}
SHORT = {"timeout_s": 1, "memory_mb": 64}

KINDS = [
    Kind("hello", {"code": "print('hello')"}, "ok", "hello\n", 30),
    Kind("hello, used", {"code": "print('hello')", "reuse": "caller"}, "ok", "hello\n", 60),
    Kind("stdin", {"code": "print(len(input()))", "stdin": "x" * 100_000}, "ok", "100000\n"),
    Kind("large code", {"code": "x = '" + "y" * 500_000 + "'\nprint(len(x))"}, "ok", "500000\n", 3),
    Kind("output", {"code": "print('z' * 300_000)", "reuse": "caller"}, "ok", "z" * 300_000 + "\n"),
    Kind("numpy", {"code": "import numpy; print(numpy.arange(10).sum())", "reuse": "caller"}, "ok", "45\n"),
    Kind(
        "children", {"code": "import subprocess; print(subprocess.run('echo a', shell=True).returncode)"}, "ok"
    ),
    Kind("files", {"code": "for i in range(200): open(f'{i}', 'w').write('x')", "reuse": "caller"}, "ok", ""),
    Kind("raises", {"code": "1 / 0", "reuse": "caller"}, "error"),
    Kind("killed", {"code": "import os; os.kill(os.getpid(), 9)", "reuse": "caller"}, "signalled"),
    Kind("memory", {"code": "x = b'x' * (300 << 20)", "limits": SMALL}, "out_of_memory", None, 3),
    Kind("flood", {"code": "while True: print('x' * 99)", "limits": SMALL}, "output_limit", None, 3),
    Kind("endless", {"code": "while True: pass", "limits": SHORT}, "timeout", None, 1),
    Kind("daemon", {"code": "import os\nif os.fork() == 0:\n    while True: pass", "reuse": "caller"}, "ok"),
]

#: For each further language, where it is offered.
HELLO = {
    "bash": "echo hello",
    "javascript": "console.log('hello')",
    "r": "cat('hello\\n')",
    "rust": 'fn main() { println!("hello"); }',
}

#: What a scripted model writes; the second is repaired once.
TASKS = [
    Kind("task", {"task": "[scripted:right] greet", "reuse": "caller"}, "ok", None, 10),
    Kind("task, repaired", {"task": "[scripted:wrong-then-right] greet", "reuse": "caller"}, "ok", None, 10),
]


def kinds(languages: Sequence[str], *, tasks: bool = False) -> list[Kind]:
    """Everything that can be run here."""
    more = [
        Kind(f"{name}, {reuse}", {"code": code, "language": name, "reuse": reuse}, "ok", "hello\n", 5)
        for name, code in HELLO.items()
        if name in languages
        for reuse in ("never", "caller")
    ]
    return KINDS + more + (TASKS if tasks else [])
