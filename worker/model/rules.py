"""The numbers of the refinement loop; data/refine.toml holds them and says what each means."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RefineRules:
    """How a task is tried again. Times in seconds, sizes in bytes."""

    fresh_at: int = 3
    escalate_at: int = 4
    same_errors: int = 2
    shorten: int = 1
    silent_is_wrong: bool = True
    temperature: float = 0.2
    fresh_temperature: float = 0.5
    max_tokens: int = 4096
    shorten_max_tokens: int = 8192
    deadline_s: float = 600.0
    queue_s: float = 86400.0
    stderr_head: int = 2048
    stderr_tail: int = 6144
    stdout_head: int = 1024
    stdout_tail: int = 3072
    files_shown: int = 4
    task_error: int = 300
    answer_most: int = 4096
    extract_most: int = 1048576
    chunks_most: int = 8
    notes_tokens: int = 2048


def load_refine_rules(path: Path | None = None) -> RefineRules:
    """The rules from `path` or from the file that comes with us.

    Raises:
        TypeError: the file has a name that is not known.
    """
    if path is None:
        text = files("worker.model").joinpath("data", "refine.toml").read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    return RefineRules(**tomllib.loads(text))
