"""Which tasks a benchmark has: sets by name, files of the user's own, and names out of them."""

from collections.abc import Sequence
from pathlib import Path

from retort.bench.generated import generated, recall
from retort.bench.tasks import Task, TaskError, distinct, load_file, load_set

#: Set -> the files of ours that belong to it, beside what is generated for it.
SETS: dict[str, tuple[str, ...]] = {
    "named": ("named",),
    "categories": ("categories",),
    "probes": ("adversarial",),
    "large": (),
    "isolation": ("isolation",),
}
USUAL = ("named", "categories", "isolation")


def choose(
    sets: Sequence[str], files: Sequence[Path] = (), only: Sequence[str] = (), recall_tokens: Sequence[int] = ()
) -> list[Task]:
    """The tasks of these sets and files; of them only those that are named, if any is.

    Raises:
        TaskError: no such set or name, or a file is not as it must be.
    """
    tasks: list[Task] = []
    for name in sets:
        if name not in SETS:
            raise TaskError(f"set: there is no {name!r}; there are {', '.join(SETS)}")
        for file in SETS[name]:
            tasks += load_set(file)
        tasks += generated(name)
    tasks += [each for each in map(recall, dict.fromkeys(recall_tokens)) if each not in tasks]
    for path in files:
        tasks += load_file(path)
    tasks = distinct(tasks)
    known = {task.name for task in tasks}
    if missing := [name for name in only if name not in known]:
        raise TaskError(f"only: there is no task {missing[0]!r}; there are {', '.join(sorted(known))}")
    return [task for task in tasks if not only or task.name in only]
