"""Each language: hello world in a waiting cell, the start of a cell, and the bare interpreter beside it.

Bare is what anybody pays who starts the interpreter where it is installed already: the same command and
variables as the runner uses for a cold program, started and waited for inside a container of the same image.
For a language with a compiler it is the compiler and then what it made. Each start comes after the same pause
as the job of a waiting cell, since what has just run starts faster; a row without one stands beside it.
"""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.containers import Bench
from benchmarks.document import Measurement
from benchmarks.driver import DriverError
from benchmarks.pace import Pace
from domain.languages import Language, load_languages
from worker.sandbox import images
from worker.sandbox.engine import NoSuchImage
from worker.sandbox.running import Program

HELLO: Mapping[str, str] = {
    "python": "print('hello')",
    "javascript": "console.log('hello')",
    "bash": "echo hello",
    "r": "cat('hello\\n')",
    "rust": 'fn main() { println!("hello"); }',
}

#: Seconds before each job and each bare start: a cell's interpreter is up then, and caches have gone cold.
PAUSE_S = 0.5

#: Runs inside a container: each command in turn, so often, and how long all of them took together, in ms.
_BARE = """
import json, os, sys, time
count, pause_s, name, code, env, commands = json.loads(sys.argv[1])
guest = os.stat("/work").st_uid
os.setresgid(guest, guest, guest)
os.setresuid(guest, guest, guest)
os.chdir("/work")
open(name, "w").write(code)
quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
times = []
for _ in range(count):
    time.sleep(pause_s)
    began = time.perf_counter()
    for path, *argv in commands:
        status = os.waitpid(os.posix_spawn(path, argv, {**os.environ, **env}, file_actions=quiet), 0)[1]
        assert status == 0, (path, status)
    times.append(1e3 * (time.perf_counter() - began))
print(json.dumps(times))
"""

_PYTHON = {"command": ["/usr/bin/python3", "python3", "{file}"]}


def measure(bench: Bench, pace: Pace) -> Iterator[Measurement]:
    """Every language whose image is built."""
    for language in load_languages().values():
        image = images.expected_tag(language.name)
        try:
            bench.engine.image(image)
        except NoSuchImage:
            pace.say(f"{language.title} is not measured: its image is not built")
            continue
        pace.say(f"language: {language.title}")
        pace.settle()
        yield _bare(bench, language, image, max(5, pace.starts // 10) if language.compiled else pace.starts, 0)
        yield _bare(bench, language, image, 10 if language.compiled else pace.fresh_cells, PAUSE_S)
        pace.settle()
        yield from _warm(bench, pace, language, image)


def _bare(bench: Bench, language: Language, image: str, count: int, pause_s: float) -> Measurement:
    launch: Mapping[str, Any] = images.recipe_of(language.name).launch or _PYTHON
    commands = [launch[key] for key in ("compile", "command") if key in launch]
    filled = [[_filled(word, language) for word in command] for command in commands]
    env = {name: _filled(text, language) for name, text in launch.get("env", {}).items()}
    given = json.dumps([count, pause_s, language.file, HELLO[language.name], env, filled])
    times = json.loads(bench.output(["python3", "-c", _BARE, given], image))
    what = "compiler, then program" if language.compiled else "interpreter"
    key, when = ("bare", f"after {pause_s:g} s") if pause_s else ("bare_row", "in a row")
    title = f"{language.title}: hello, bare {what} in a container, {when}"
    return Measurement.of_times(f"language.{language.name}.{key}", title, times)


def _filled(text: str, language: Language) -> str:
    return text.replace("{file}", language.file).replace("{memory_mb}", "512")


def _warm(bench: Bench, pace: Pace, language: Language, image: str) -> Iterator[Measurement]:
    starts, times = [], []
    for _ in range(pace.fresh_cells):
        began = time.perf_counter()
        with bench.cell(image) as cell:
            starts.append(1e3 * (time.perf_counter() - began))
            time.sleep(PAUSE_S)
            program = Program(
                code=HELLO[language.name].encode(),
                file=language.file,
                limits=cell.spec.limits,
                compiled=language.compiled,
            )
            began = time.perf_counter()
            ending = cell.run(program)
            times.append(1e3 * (time.perf_counter() - began))
            if (ending.status, ending.stdout) != (0, b"hello\n"):
                raise DriverError(f"{language.title}: {ending.status}, {ending.stdout!r}, {ending.stderr!r}")
    key, title = f"language.{language.name}", language.title
    yield Measurement.of_times(f"{key}.cold", f"{title}: start of a cell, from create to ready", starts)
    yield Measurement.of_times(f"{key}.warm", f"{title}: hello, first job of a waiting cell", times)
