"""What a benchmark measures: files of tasks, good and bad; generated ones; the requests that they become."""

from pathlib import Path

import pytest

from domain.limits import load_profiles
from domain.tasks import load_task_rules
from retort.bench.asking import Settings, ask, run, same_for_all
from retort.bench.choosing import SETS, USUAL, choose
from retort.bench.generated import reasoning, recall
from retort.bench.measurement import EXECUTION
from retort.bench.plan import Plan, batches
from retort.bench.tasks import Check, Task, TaskError, load_file, read_tasks

NAMED = ["quicksort", "sort-objects", "groupby", "fibonacci", "sieve", "csv-counts", "numpy-sieve"]
CATEGORIES = {"data transformation", "statistical analysis", "visualization", "algorithmic", "numerical"}


def one(**values: object) -> str:
    """A file with one task."""
    usual = {"name": '"mine"', "task": '"Print 1"', "check": '{ stdout = "1" }', **values}
    return "[[tasks]]\n" + "".join(f"{name} = {value}\n" for name, value in usual.items() if value is not None)


#: file -> what is said of it.
BAD = [
    ("no TOML", "[[tasks", "not TOML"),
    ("nothing", "", "tasks: Field required"),
    ("no task", "tasks = []", "tasks: "),
    ("something else", "tasks = [1]", "task 1: "),
    ("an unknown field", one(timeout="3"), "task 'mine': timeout: is no field that is known"),
    ("a field beside the tasks", "other = 1\n" + one(), "other: is no field that is known"),
    ("no name", one(name=None), "task 1: name: Field required"),
    ("a name with a space", one(name='"my task"'), "task 'my task': name: "),
    ("a name that is a number", one(name="3"), "task 1: name: "),
    ("neither task nor program", one(task=None), "task 'mine': give a task, a program, or both"),
    ("an empty task", one(task='""'), "task 'mine': task: "),
    ("a task without a check", one(check=None), "task 'mine': a task needs a check"),
    ("a check of both", one(check='{ stdout = "1", tests = "1" }'), "task 'mine': check: give exactly one of"),
    ("a check of nothing", one(check="{}"), "task 'mine': check: give exactly one of"),
    ("an unknown check", one(check='{ magic = "1" }'), "task 'mine': check.magic: is no field that is known"),
    ("a check that is text", one(check='"1"'), "task 'mine': check: "),
    ("a verdict for a task", one(verdict='"timeout"'), "task 'mine': verdict is for programs alone"),
    ("an unknown verdict", one(task=None, program='"1"', verdict='"bad"'), "task 'mine': verdict: "),
    ("args that are text", one(args='"a b"'), "task 'mine': args: "),
    ("a limit that is text", one(limits='{ timeout_s = "1" }'), "task 'mine': limits.timeout_s"),
    ("a file without content", one(files='[{ name = "a" }]'), "task 'mine': files.0: give exactly one of"),
    (
        "a file that is not there",
        one(files='[{ name = "a", path = "no" }]'),
        "task 'mine': files.0.path: no: No",
    ),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_file_is_refused_and_the_field_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TaskError) as refused:
        load_file(path)
    assert str(refused.value).startswith(f"{path}: {said}")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="No such file"):
        load_file(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(TaskError, match="UTF-8"):
        load_file(tmp_path / "latin.toml")


def test_a_name_may_be_used_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(one() + one())
    with pytest.raises(TaskError, match="two tasks are called 'mine'"):
        choose([], [path])
    path.write_text(one(name='"sieve"'))
    with pytest.raises(TaskError, match="two tasks are called 'sieve'"):
        choose(["named"], [path])


def test_files_of_a_task_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,é\n", encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(one(files='[{ name = "in.csv", path = "rows.csv" }]'), encoding="utf-8")
    (task,) = load_file(path)
    request = ask(task, "m", Settings())
    assert request["files"] == [{"name": "in.csv", "content": "a,b\n1,é\n"}]
    (tmp_path / "rows.csv").write_bytes(b"\xff")
    with pytest.raises(TaskError, match=r"files\.0\.path: rows\.csv is not UTF-8"):
        load_file(path)


def test_the_workloads_and_categories_are_there() -> None:
    tasks = {task.name: task for task in choose(USUAL)}
    assert set(NAMED) <= set(tasks)
    assert tasks["sort-objects"].language == "javascript"
    by_category = {category: [t for t in tasks.values() if t.category == category] for category in CATEGORIES}
    assert all(len(found) >= 2 for found in by_category.values())
    assert [task.depth for task in tasks.values() if task.name.startswith("pivot")] == [10_000, 100_000]
    (large,) = choose(["large"])
    assert (large.depth, large.profile) == (1_000_000, "extended")


def test_every_task_that_comes_along_can_be_asked_and_run() -> None:
    rules, profiles = load_task_rules(), load_profiles()
    for task in choose(list(SETS)):
        assert task.program is not None, task.name
        assert (task.task is None) == (task.category == "isolation"), task.name
        assert task.check is not None or task.verdict != "ok", task.name
        if task.check is not None and task.check.tests is not None:
            assert task.language in rules.tested_languages
        profiles[task.profile or "standard"].resolve(dict(task.limits))  # raises where one is out of range


def test_recall_hides_three_codes_in_a_text_of_the_length_asked_for() -> None:
    for tokens in (2_000, 180_000):
        task = recall(tokens)
        assert task == recall(tokens), "always the same"
        assert task.task is not None
        assert task.check is not None
        assert 0.9 * tokens < len(task.task) / 4 < 1.1 * tokens
        codes = str(task.check.stdout).split()
        places = [task.task.index(f"vault {n} is {code}.") / len(task.task) for n, code in enumerate(codes, 1)]
        assert [round(place, 1) for place in places] == [0.0, 0.5, 1.0]
        assert len(task.task) < 2**20, "a job takes it"


def test_reasoning_is_as_deep_as_asked_for_and_its_answer_follows() -> None:
    task = reasoning(16)
    assert task.task is not None
    assert task.check is not None
    assert task.task.count("Step ") == 16
    values: dict[int, int] = {}
    for number in range(1, 17):
        words = task.task.split(f"Step {number} is ")[1].split(". ")[0].rstrip(".").split()
        found = [int(word.strip(",")) for word in words if word.strip(",").isdigit()]
        if number == 1:
            value = found[0]
        elif words[:2] == ["the", "sum"]:
            value = values[found[0]] + values[found[1]]
        elif "twice" in words:
            value = values[found[0]] - 2 * values[found[1]]
        elif words[0] == "three":
            value = 3 * values[found[0]] + found[1]
        else:
            value = max(values[found[0]], values[found[1]]) + found[2]
        values[number] = value % 1000
    assert task.check.stdout == str(values[16])


def test_only_what_is_named_is_measured() -> None:
    assert [task.name for task in choose(["named"], only=["sieve", "fibonacci"])] == ["fibonacci", "sieve"]
    assert [task.name for task in choose([], recall_tokens=[500, 500])] == ["recall-500"]
    assert choose(["probes"], recall_tokens=[2_000]) == choose(["probes"])
    with pytest.raises(TaskError, match="there is no task 'seive'"):
        choose(["named"], only=["seive"])
    with pytest.raises(TaskError, match="there is no 'magic'; there are named, categories"):
        choose(["magic"])


def test_every_model_is_asked_the_same() -> None:
    for task in choose(["named", "categories", "probes"]):
        one, other = (ask(task, model, Settings(attempts=3, preset="p", labels={"a": "b"})) for model in "xy")
        assert one | {"model": "y"} == other
        assert same_for_all(one) == same_for_all(other)
        assert (one["fallbacks"], one["cache"], one["max_attempts"]) == ([], False, 3)
    assert same_for_all(one) != same_for_all({**one, "task": "another"})
    assert "reuse" not in one
    assert ask(task, "x", Settings(reuse=True))["reuse"] == "caller"


def test_a_program_is_run_with_its_tests_behind_it() -> None:
    (task,) = read_tasks(one(program='"x = 1"', check='{ tests = "assert x == 1" }'), "f")
    code = run(task, Settings())["code"]
    assert code.startswith("x = 1\nassert x == 1\n")
    bash = Task(name="b", language="bash", program="x=1", check=Check(tests='[ "$x" = 1 ]'))
    assert run(bash, Settings())["code"] == 'x=1\n[ "$x" = 1 ]\n'


def test_a_plan_takes_turns_and_leaves_out_what_cannot_be() -> None:
    tasks = (
        Task(name="both", task="t", program="p", check=Check(stdout="")),
        Task(name="words", task="t", check=Check(stdout="")),
        Task(name="code", program="p"),
    )
    plan = Plan(tasks, models=("a", "b"), iterations=2)
    items = plan.items()
    assert len({item.key for item in items}) == len(items) == 2 * (3 + 2 + 1)
    firsts = [next(i.subject for i in items if (i.task.name, i.iteration) == ("words", n)) for n in (1, 2)]
    assert sorted(firsts) == ["a", "b"]
    assert {item.subject for item in items if item.task.name == "code"} == {EXECUTION}
    assert [len(batch) for batch in batches(items, 5)] == [5, 5, 2]
    assert plan.digest() == Plan(tasks, models=("a", "b"), iterations=2).digest()
    assert plan.digest() != Plan(tasks, models=("a", "b"), iterations=3).digest()
