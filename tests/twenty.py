"""Twenty tasks whose first program is wrong in twenty ways and whose second is right, by language.

`needs` is what the feedback must say for a person to repair the program: the scripted model gives the right one
only to a question that has these words.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task: the wrong program, its verdict, what the feedback must say, the right program."""

    name: str
    wrong: str
    verdict: str
    needs: str
    right: str
    check: dict[str, str] | None = None
    limits: dict[str, Any] = field(default_factory=dict)


def _prints(name: str, wrong: str, needs: str, right: str = "print('done')", verdict: str = "error") -> Task:
    return Task(name, wrong, verdict, needs, right)


PYTHON = [
    _prints("syntax", "print('done'", "SyntaxError: '(' was never closed"),
    _prints("indentation", "if True:\nprint('done')", "IndentationError: expected an indented block"),
    _prints("name", "print(dnoe)", "NameError: name 'dnoe' is not defined"),
    _prints("type", "print('1' + 1)", "TypeError: can only concatenate str"),
    _prints("package", "import frobnicate\nprint('done')", "nothing can be installed"),
    _prints("import", "print(random.random() < 2)", "NameError: name 'random'", "import random\nprint(1)"),
    _prints("key", "print({'a': 1}['b'])", "KeyError: 'b'"),
    _prints("index", "items = [1, 2]\nprint(items[2])", "print(items[2])"),
    _prints("division", "print(1 / len([]))", "ZeroDivisionError"),
    _prints("attribute", "print('a'.uppercase())", "'str' object has no attribute 'uppercase'"),
    _prints("encoding", "print('é'.encode('ascii'))", "utf-8-sig"),
    _prints("json", "import json\nprint(json.loads(\"{'a': 1}\"))", "JSON library"),
    _prints("recursion", "def f(n):\n    return f(n + 1)\nprint(f(0))", "a loop with a stack of its own"),
    _prints("file", "print(open('data.csv').read())", "No such file or directory: 'data.csv'"),
    _prints("exit", "import sys\nprint('half')\nsys.exit(3)", "exit code 3"),
    Task(
        "off by one",
        "print(sum(range(10)))",
        "check_failed",
        "line 1 of the output is '45', expected is '55'",
        "print(sum(range(11)))",
        check={"stdout": "55\n"},
    ),
    Task(
        "format",
        "print([1, 2, 3])",
        "check_failed",
        "line 1 of the output is '[1, 2, 3]', expected is '1 2 3'",
        "print(1, 2, 3)",
        check={"stdout": "1 2 3"},
    ),
    Task(
        "endless",
        "n = 0\nwhile n >= 0:\n    n += 1\nprint('done')",
        "timeout",
        "Look for a loop that never ends",
        "print('done')",
        limits={"timeout_s": 1},
    ),
    Task(
        "memory",
        "print(len([0] * (200 << 20)))",
        "out_of_memory",
        "chunks of at most 50,000 rows",
        "print('done')",
        limits={"memory_mb": 64},
    ),
    Task(
        "tests",
        "def median(numbers):\n    return numbers[len(numbers) // 2]",
        "check_failed",
        'File "tests.py", line 3',
        "def median(numbers):\n    return sorted(numbers)[len(numbers) // 2]",
        check={"tests": "middle = median([1, 2, 9])\nassert middle == 2\nassert median([3, 1, 2]) == 2"},
    ),
]

#: Add a language by adding its rows.
TASKS: dict[str, list[Task]] = {"python": PYTHON}
