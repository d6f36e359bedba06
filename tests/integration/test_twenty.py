"""Twenty of twenty tasks end well at the second attempt, in every language."""

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from domain.languages import load_languages
from tests.conftest import Services, empty
from tests.harness import Broker, Jobs, Worker, eventually
from tests.tasks import FINAL, add_task, calls_of, ring, task_worker
from tests.twenty import TASKS


def scripts(folder: Path) -> Path:
    """The table as scripts."""
    lines: list[str] = []
    for language, tasks in TASKS.items():
        for number, task in enumerate(tasks):
            lines += ["[[scripts]]", f'name = "{language}-{number}"']
            for code, when in ((task.wrong, ""), (task.right, task.needs[0])):
                lines += ["[[scripts.turns]]", f"when = {json.dumps(when)}"]
                lines += ["[scripts.turns.code]", f"{language} = {json.dumps(code)}"]
    path = folder / "twenty.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def served(
    services: Services, engine: docker.DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """The worker."""
    empty(services)
    folder = tmp_path_factory.mktemp("twenty")
    with task_worker(services, engine, folder, scripts(folder), warm_languages=",".join(TASKS)) as (worker, _):
        yield worker


def test_every_language_has_its_twenty() -> None:
    assert set(TASKS) == set(load_languages())
    assert {
        language: len({task.wrong for task in tasks}) for language, tasks in TASKS.items()
    } == dict.fromkeys(TASKS, 20)


@pytest.mark.parametrize("language", TASKS)
def test_twenty_of_twenty(served: Worker, jobs_table: Jobs, broker: Broker, language: str) -> None:
    tasks = TASKS[language]
    ids = [
        add_task(
            jobs_table,
            f"[scripted:{language}-{number}] do what the script says",
            language=language,
            check_by=task.check,
            limits=task.limits,
        )
        for number, task in enumerate(tasks)
    ]
    ring(broker, *ids)
    eventually(lambda: all(jobs_table.get(job_id).state in FINAL for job_id in ids), "all tasks end", 300)
    wrong: dict[str, object] = {}
    for job_id, task in zip(ids, tasks, strict=True):
        job = jobs_table.get(job_id)
        verdicts = [attempt.verdict for attempt in jobs_table.attempts(job_id)]
        expected = ("ok", "passed" if task.check else "ran", [task.verdict, "ok"])
        if (job.verdict, job.outcome, verdicts) != expected:
            wrong[task.name] = (job.verdict, job.outcome, verdicts, job.reason)
            continue
        told = calls_of(jobs_table, job_id)[1].prompt["messages"][-1]["content"]
        if missing := [words for words in task.needs if words not in told]:
            wrong[task.name] = (missing, told)
    assert wrong == {}
