"""`make demo`: the whole service from nothing, with a scripted model in the place of a real one.

A task is submitted; the first program is wrong, its error goes back to the model, the second is right and draws
a plot. Everything is real but the model: a server of ours that plays a script, so that no key is needed. The
service lives in a folder of its own (.retort/demo) and is ended again.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retort import engine
from retort.client import Config, Job, Retort
from retort.client.errors import NoGateway, NotFound
from retort.client.results import Attempt
from retort.state import VARIABLE, StateFolder

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".retort" / "demo"
RETORT = [sys.executable, "-P", "-m", "retort.cli.main"]
TASK = "Plot sine from 0 to 2 pi with matplotlib and save it as sine.png."


def say(line: str = "") -> None:
    """To the reader."""
    print(line, flush=True)


def shown(title: str, text: str) -> None:
    """A block of text with a title."""
    say(f"\n  {title}")
    for line in text.rstrip().splitlines():
        say(f"  | {line if len(line) <= 110 else line[:107] + '...'}")


@contextmanager
def scripted_model() -> Iterator[str]:
    """The scripted model; its base URL."""
    command = [*RETORT, "scripted-model", "--port", "0", "--scripts", str(ROOT / "scripts" / "demo.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        for line in process.stdout or ():
            if found := re.search(r"http://\S+", line):
                yield found[0]
                return
        raise SystemExit("demo: the scripted model did not start")
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def service(url: str) -> Iterator[Retort]:
    """The service, with this model gateway; a client of it."""
    env = {
        **os.environ,
        VARIABLE: str(FOLDER),
        "RETORT_GATEWAY_URL": url,
        "RETORT_GATEWAY_KEY_LENGTH": "0",
        "RETORT_GATEWAY_MODELS": "gpt-4.1",
    }
    up = subprocess.run([*RETORT, "up", "--detach", "--port", "0"], cwd=ROOT, env=env, check=False)
    try:
        if up.returncode:
            raise SystemExit("demo: the service did not start; its logs are in .retort/demo/logs")
        state = StateFolder(FOLDER)
        with Retort(Config(str(state.status()["url"]), state.api_key())) as client:
            yield client
    finally:
        subprocess.run([*RETORT, "down"], cwd=ROOT, env=env, check=False)


def submit(client: Retort) -> Job:
    """Submit the task, as soon as a worker is there that asks models, and follow it to its end."""
    deadline = time.monotonic() + 60
    while True:
        try:
            submitted = client.submit(task=TASK, model="auto", budget_usd="0.10")
            break
        except NoGateway:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    say(f"\nTask: {TASK}")
    for event in client.events(submitted):
        if event.kind == "attempt":
            tell(client.attempt(submitted, event.data["number"]))
    return client.get(submitted)


def tell(attempt: Attempt) -> None:
    """What one attempt was."""
    number, call = attempt.number, attempt.calls[-1]
    spent = f"${attempt.cost_usd}"
    say(f"\nAttempt {number}: {call['model']} (scripted), {call['output_tokens']} tokens, {spent}")
    if number > 1:
        shown("the model was told:", call["prompt"]["messages"][-1]["content"])
    shown("it answered with this program:", attempt.code or call["answer"])
    say(f"\n  verdict: {attempt.verdict or attempt.failure}, exit code {attempt.exit_code}")
    for stream, text in (("stderr", attempt.stderr), ("stdout", attempt.stdout)):
        if text:
            shown(f"{stream}:", text)
    for left in attempt.artifacts:
        say(f"  left: {left.name}, {left.size} bytes, {left.media_type}")


def save(client: Retort, job: Job) -> Path | None:
    """The plot that the program drew, downloaded to here."""
    try:
        path = client.download(job, "sine.png", FOLDER)
    except NotFound:
        say(f"demo: the job left no sine.png, only {[left.name for left in job.artifacts]}")
        return None
    return path if path.read_bytes().startswith(b"\x89PNG") else None


def main() -> int:
    """Run it; 0 if the loop did what it must."""
    state = StateFolder(FOLDER)
    engine.ensure(state, lambda line: say(f"demo: {line}"))
    try:
        build = [sys.executable, "-P", "-m", "worker.sandbox.images", "build", "--quiet"]
        subprocess.run(build, cwd=ROOT, check=True)
        with scripted_model() as url, service(url) as client:
            job = submit(client)
            plot = save(client, job)
    finally:
        engine.stop(state)
    verdicts = [attempt.verdict for attempt in job.attempts]
    good = verdicts == ["error", "ok"] and plot is not None
    say(f"\nThe task ended: {job.verdict} after {len(verdicts)} attempts, cost ${job.cost_usd} (scripted)")
    say(f"The plot: {plot}" if good else f"demo: not what it must be: {verdicts}, {job.reason}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
