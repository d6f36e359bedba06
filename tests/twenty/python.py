"""Python, wrong in twenty ways."""

from tests.twenty.task import Task, differs, fails, tested

DONE = "print('done')"

PYTHON: list[Task] = [
    fails("syntax", "print('done'", "SyntaxError: '(' was never closed", "line 1", right=DONE),
    fails("indentation", "if True:\nprint('done')", "IndentationError: expected an indented block", right=DONE),
    fails("name", "print(dnoe)", "NameError: name 'dnoe' is not defined", right=DONE),
    fails("type", "print('1' + 1)", "TypeError: can only concatenate str", right=DONE),
    fails(
        "package",
        "import frobnicate\nprint('done')",
        "No module named 'frobnicate'",
        "nothing can be installed",
        right=DONE,
    ),
    fails(
        "import",
        "print(random.random() < 2)",
        "NameError: name 'random'",
        "Is an import or a definition missing?",
        right="import random\nprint(random.random() < 2)",
    ),
    fails("key", "print({'a': 1}['b'])", "KeyError: 'b'", right=DONE),
    fails("index", "items = [1, 2]\nprint(items[2])", "print(items[2])", "IndexError", right=DONE),
    fails("division", "print(1 / len([]))", "ZeroDivisionError", right=DONE),
    fails("attribute", "print('a'.uppercase())", "'str' object has no attribute 'uppercase'", right=DONE),
    fails("encoding", "print('é'.encode('ascii'))", "'ascii' codec can't encode", "utf-8-sig", right=DONE),
    fails(
        "json",
        "import json\nprint(json.loads(\"{'a': 1}\"))",
        "Expecting property name enclosed in double quotes",
        "JSON library",
        right="import json\nprint(json.loads('{\"a\": 1}'))",
    ),
    fails(
        "recursion",
        "def f(n):\n    return f(n + 1)\nprint(f(0))",
        "a loop with a stack of its own",
        "RecursionError",
        right=DONE,
    ),
    fails("file", "print(open('data.csv').read())", "No such file or directory: 'data.csv'", right=DONE),
    fails("exit", "import sys\nprint('half')\nsys.exit(3)", "exit code 3", "half", right=DONE),
    differs("off by one", "print(sum(range(10)))", "45", "55", right="print(sum(range(11)))"),
    differs("format", "print([1, 2, 3])", "[1, 2, 3]", "1 2 3", right="print(1, 2, 3)"),
    fails(
        "endless",
        "n = 0\nwhile n >= 0:\n    n += 1\nprint('done')",
        "Look for a loop that never ends",
        "5 s of wall time",
        right=DONE,
        verdict="timeout",
        timeout_s=5,
    ),
    fails(
        "memory",
        "print(len([0] * (200 << 20)))",
        "chunks of at most 50,000 rows",
        "gc.collect()",
        "64 MB of memory",
        right=DONE,
        verdict="out_of_memory",
        memory_mb=64,
    ),
    tested(
        "tests",
        "def median(numbers):\n    return numbers[len(numbers) // 2]",
        "middle = median([1, 2, 9])\nassert middle == 2\nassert median([3, 1, 2]) == 2",
        'File "tests.py", line 3',
        "AssertionError",
        right="def median(numbers):\n    return sorted(numbers)[len(numbers) // 2]",
    ),
]
