"""The program in an answer, or why there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from worker.model.extract import Extracted, Problem, extract
from worker.model.prompts import fenced_program

P = "print(1)\n"
BLOCK = "```python\nprint(1)\n```"

#: name, answer, language, cut off, the program or the problem.
CASES: list[tuple[str, str, str, bool, str | Problem]] = [
    ("one block", BLOCK, "python", False, P),
    ("prose around", f"Here:\n\n{BLOCK}\n\nThat is all.", "python", False, P),
    ("capitals", "```Python\nprint(1)\n```", "python", False, P),
    ("py", "```py\nprint(1)\n```", "python", False, P),
    ("python3", "```python3\nprint(1)\n```", "python", False, P),
    ("a title", '```python title="main.py"\nprint(1)\n```', "python", False, P),
    ("attributes", "```{.python .numberLines}\nprint(1)\n```", "python", False, P),
    ("braces", "```{python}\nprint(1)\n```", "python", False, P),
    ("no language, alone", "```\nprint(1)\n```", "python", False, P),
    ("tildes", "~~~python\nprint(1)\n~~~", "python", False, P),
    ("many tildes", "~~~~~~ python\nprint(1)\n~~~~~~", "python", False, P),
    ("a long fence", "`````python\nprint(1)\n`````", "python", False, P),
    ("a fence within", "````python\ns = '''\n```\n'''\n````", "python", False, "s = '''\n```\n'''\n"),
    ("tildes around backticks", "~~~python\n# ```\nprint(1)\n~~~", "python", False, "# ```\nprint(1)\n"),
    ("within a list", "1. First:\n\n   ```python\n   print(1)\n   ```\n", "python", False, P),
    ("within a quote", "> ```python\n> print(1)\n> ```", "python", False, P),
    ("indented fence", "  ```python\n  print(1)\n  ```", "python", False, P),
    ("indentation is kept", "```python\nif 1:\n    x = 1\n```", "python", False, "if 1:\n    x = 1\n"),
    ("Windows line ends", "```python\r\nprint(1)\r\n```\r\n", "python", False, P),
    ("two blocks, the last", "```python\nprint(0)\n```\nBetter:\n```python\nprint(1)\n```", "python", False, P),
    ("shell after the program", f"{BLOCK}\n```bash\npython main.py\n```", "python", False, P),
    ("output after the program", f"{BLOCK}\nIt prints:\n```\n1\n```", "python", False, P),
    ("text block before", f"```text\nplan\n```\n{BLOCK}", "python", False, P),
    ("wrapped in markdown", "````markdown\n```python\nprint(1)\n```\n````", "python", False, P),
    ("wrapped with equal fences", "```markdown\nHere:\n```python\nprint(1)\n```\n```", "python", False, P),
    ("never closed", "```python\nprint(1)", "python", False, P),
    ("never closed, with a line end", "```python\nprint(1)\n", "python", False, P),
    ("closed, then cut off", f"{BLOCK}\nThis program pri", "python", True, P),
    ("cut off within", "```python\nprint(1", "python", True, Problem.CUT_OFF),
    ("cut off before the fence", "Let me thi", "python", True, Problem.CUT_OFF),
    ("cut off within the last of two", f"{BLOCK}\n```python\nprint(", "python", True, Problem.CUT_OFF),
    ("cut off in another block", "```bash\npip inst", "python", True, Problem.CUT_OFF),
    ("cut off at once", "", "python", True, Problem.CUT_OFF),
    ("nothing", "", "python", False, Problem.EMPTY),
    ("blanks", " \n\t\n", "python", False, Problem.EMPTY),
    ("an empty block", "```python\n\n```", "python", False, Problem.EMPTY),
    ("prose", "I would use a sieve.", "python", False, Problem.PROSE),
    ("code without a fence", "import os\nprint(os.getcwd())", "python", False, Problem.PROSE),
    ("inline code", "Use `print(1)`.", "python", False, Problem.PROSE),
    ("indented code", "Use:\n\n    print(1)\n", "python", False, Problem.PROSE),
    ("an HTML block", "<pre><code>print(1)</code></pre>", "python", False, Problem.PROSE),
    ("another language", "```javascript\nconsole.log(1)\n```", "python", False, Problem.WRONG_LANGUAGE),
    ("several others", "```js\n1\n```\n```\n2\n```", "python", False, Problem.WRONG_LANGUAGE),
    ("several without language", "```\n1\n```\n```\n2\n```", "python", False, Problem.UNLABELLED),
    ("a diff", "```diff\n-print(0)\n+print(1)\n```", "python", False, Problem.DIFF),
    ("a diff that does not say so", "```\n--- a.py\n+++ b.py\n@@ -1 +1 @@\n```", "python", False, Problem.DIFF),
    ("javascript", "```js\nconsole.log(1)\n```", "javascript", False, "console.log(1)\n"),
    ("node", "```node\nconsole.log(1)\n```", "javascript", False, "console.log(1)\n"),
    ("bash", "```sh\necho 1\n```", "bash", False, "echo 1\n"),
    ("r", "```R\ncat(1)\n```", "r", False, "cat(1)\n"),
    ("rust", "```rs\nfn main() {}\n```", "rust", False, "fn main() {}\n"),
    ("rust is not r", "```rust\nfn main() {}\n```", "r", False, Problem.WRONG_LANGUAGE),
    ("a language that is new", "```zig\nx\n```", "zig", False, "x\n"),
    ("NUL", "```python\nprint('a\x00b')\n```", "python", False, "print('a\N{REPLACEMENT CHARACTER}b')\n"),
]


@pytest.mark.parametrize(
    ("answer", "language", "cut", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_taken(answer: str, language: str, cut: bool, expected: str | Problem) -> None:
    found = extract(answer, language, cut=cut)
    assert (found.problem if isinstance(expected, Problem) else found.code) == expected
    assert (found.code is None) == isinstance(expected, Problem)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(CASES) >= 40


def test_what_was_there_is_told() -> None:
    found = extract("```js\n1\n```\n```sql\n2\n```\n```js\n3\n```", "python", cut=False)
    assert found == Extracted(None, Problem.WRONG_LANGUAGE, ("js", "sql"))


def test_an_answer_that_is_too_long_is_not_searched() -> None:
    assert extract(BLOCK + "x" * 1000, "python", cut=False, most=1000).problem is Problem.TOO_LONG


def test_a_deep_nesting_takes_no_time() -> None:
    assert extract(">" * 50_000 + BLOCK, "python", cut=False).code is None
    assert extract("- " * 20_000 + BLOCK, "python", cut=False).problem is not None


@given(st.text(), st.sampled_from(["python", "r", "bash"]), st.booleans())
def test_any_answer_has_a_program_or_a_reason(answer: str, language: str, cut: bool) -> None:
    found = extract(answer, language, cut=cut)
    assert (found.code is None) == (found.problem is not None)


_lines = st.lists(st.text(alphabet="ab`~> \t#'\"-", max_size=12), min_size=1, max_size=8)


@given(_lines.filter(lambda lines: any(line.strip() for line in lines)))
def test_a_program_survives_its_fence(lines: list[str]) -> None:
    code = "\n".join(lines) + "\n"
    answer = fenced_program(code, "python")
    assert extract(answer, "python", cut=False).code == code
    assert [t.type for t in MarkdownIt().parse(answer)] == ["fence"]
