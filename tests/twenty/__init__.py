"""Twenty tasks for each language whose first program is wrong in twenty ways and whose second is right."""

from tests.twenty.bash import BASH
from tests.twenty.javascript import JAVASCRIPT
from tests.twenty.python import PYTHON
from tests.twenty.r import R
from tests.twenty.rust import RUST
from tests.twenty.task import Task

TASKS: dict[str, list[Task]] = {
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "bash": BASH,
    "r": R,
    "rust": RUST,
}

__all__ = ["TASKS", "Task"]
