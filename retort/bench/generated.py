"""Tasks that are too long to write down: long tables, recall from long texts, long chains of reasoning.

All are made from fixed seeds, so that every model and every run gets the same.
"""

import random

from retort.bench.tasks import Check, Task, read_tasks, set_text

ROWS = (10_000, 100_000)
LARGE_ROWS = 1_000_000
RECALL_TOKENS = (2_000, 16_000)
STEPS = (4, 16, 64)

#: Characters that a token is taken for.
CHARACTERS_PER_TOKEN = 4

#: Characters of a line of the log.
LINE = 38


def pivot(rows: int) -> Task:
    """Parse a CSV, compute a column, pivot: over so many rows."""
    text = set_text("pivot").replace("@ROWS@", str(rows))
    (task,) = read_tasks(text, "pivot.toml")
    return task


def recall(tokens: int) -> Task:
    """Three facts within a text of about so many tokens: near its begin, in its middle, near its end."""
    source = random.Random(tokens)  # noqa: S311 (a text, no secret)
    names = [
        f"{a}{b}{c}" for a in "bdfgklmnprstv" for b in "aeiou" for c in ("ron", "lim", "tas", "der", "vok")
    ]
    count = max(30, tokens * CHARACTERS_PER_TOKEN // LINE)
    lines = [
        f"{number:05}: store {source.choice(names)} keeps {source.randint(100, 999)} crates."
        for number in range(count)
    ]
    answers: list[str] = []
    for share in (0.03, 0.5, 0.97):
        code = f"{source.randint(0, 999_999):06}"
        at = int(count * share)
        lines[at] = f"{at:05}: the code of vault {len(answers) + 1} is {code}."
        answers.append(code)
    return Task(
        name=f"recall-{tokens}",
        category="long-context recall",
        task=(
            "This is a log of stores. Somewhere in it are the codes of vault 1, vault 2 and vault 3.\n\n"
            + "\n".join(lines)
            + "\n\nPrint the three codes on one line in the order of the vaults, separated by spaces. The "
            "program does not have the log; it only prints the codes."
        ),
        program=f'print("{" ".join(answers)}")',
        check=Check(stdout=" ".join(answers)),
        depth=tokens,
    )


def reasoning(steps: int) -> Task:
    """A chain of so many dependent steps in words, whose last result is asked for."""
    source = random.Random(steps)  # noqa: S311
    values = [7]
    told = ["Step 1 is 7."]
    for number in range(2, steps + 1):
        one, other = source.randrange(len(values)), source.randrange(len(values))
        kind = source.randrange(4)
        a, b = values[one], values[other]
        if kind == 0:
            value, words = (a + b) % 1000, f"the sum of steps {one + 1} and {other + 1}"
        elif kind == 1:
            value, words = (a - 2 * b) % 1000, f"step {one + 1} less twice step {other + 1}"
        elif kind == 2:
            value, words = (a * 3 + number) % 1000, f"three times step {one + 1}, and {number} more"
        else:
            larger = max(a, b)
            value, words = (larger + 11) % 1000, f"the larger of steps {one + 1} and {other + 1}, and 11 more"
        values.append(value)
        told.append(f"Step {number} is {words}.")
    return Task(
        name=f"reasoning-{steps}",
        category="reasoning depth",
        task=(
            "Each step below is a number from 0 to 999: where a result is outside that range, take it modulo "
            "1000, so that it is not negative. "
            + " ".join(told)
            + " Print the last step's number and nothing else. "
            "Work it out yourself: the program consists of one print of a literal number."
        ),
        program=f"print({values[-1]})",
        check=Check(stdout=str(values[-1])),
        depth=steps,
    )


def generated(name: str) -> list[Task]:
    """The generated tasks that belong to a set."""
    if name == "categories":
        return [pivot(rows) for rows in ROWS]
    if name == "probes":
        return [*map(recall, RECALL_TOKENS), *map(reasoning, STEPS)]
    if name == "large":
        return [pivot(LARGE_ROWS)]
    return []
