"""Programs of the kinds that other services got wrong, each in a real cell: verdict, output, facts."""

import signal
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest

from domain.states import Verdict
from tests.integration.sandboxes import program, run_once, started_cell
from tests.integration.tiers import TIERS
from worker.sandbox.verdict import decide

MB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A program and what must come of it; None: not looked at."""

    name: str
    code: str
    verdict: Verdict
    stdout: bytes | None = None
    stderr_has: bytes | None = None
    exit_code: int | None = None
    signal: int | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


CASES = [
    Case("hello", "print('hello')", Verdict.OK, b"hello\n", exit_code=0),
    Case("empty", "", Verdict.OK, b"", exit_code=0),
    Case("ends in a millisecond", "import os; os._exit(0)", Verdict.OK, b"", exit_code=0),
    Case("exit code", "raise SystemExit(3)", Verdict.ERROR, exit_code=3),
    Case("exit 137 is no kill", "import os; os._exit(137)", Verdict.ERROR, exit_code=137),
    Case("exit 256 is 0", "import os; os._exit(256 & 255)", Verdict.OK, exit_code=0),
    Case("exit with text", "exit('why')", Verdict.ERROR, stderr_has=b"why\n", exit_code=1),
    Case("uncaught", "1/0", Verdict.ERROR, stderr_has=b"ZeroDivisionError", exit_code=1),
    Case("syntax error", "def", Verdict.ERROR, stderr_has=b"SyntaxError", exit_code=1),
    Case("stdin", "print(input() + input())", Verdict.OK, b"ab\n", stdin=b"a\nb\n"),
    Case("no stdin", "import sys; print(sys.stdin.read() == '')", Verdict.OK, b"True\n"),
    Case("arguments", "import sys; print(sys.argv[1:])", Verdict.OK, b"['x', '\xc3\xa9']\n", args=("x", "é")),
    Case("environment", "import os; print(os.environ['A'])", Verdict.OK, b"1\n", env={"A": "1"}),
    Case(
        "large code",
        f"x = {'a' * 300_000!r}\nprint(len(x))",
        Verdict.OK,
        b"300000\n",
    ),
    # Output.
    Case("more than a pipe holds", f"print('x' * {MB - 1}, end='')", Verdict.OK, b"x" * (MB - 1)),
    Case(
        "no UTF-8, and NUL",
        "import sys; sys.stdout.buffer.write(bytes(range(256)))",
        Verdict.OK,
        bytes(range(256)),
    ),
    Case("not flushed", "import sys; sys.stdout.write('no newline')", Verdict.OK, b"no newline"),
    Case(
        "file left open is written",
        "f = open('x', 'w'); f.write('kept')\nimport atexit\n"
        "atexit.register(lambda: print(open('x').read() or 'not yet'))",
        Verdict.OK,
    ),
    Case(
        "flood",
        "while True: print('x' * 99)",
        Verdict.OUTPUT_LIMIT,
        limits={"output_bytes": 4096},
    ),
    Case(
        "flood without a newline",
        "import os\nwhile True: os.write(2, b'x' * 65536)",
        Verdict.OUTPUT_LIMIT,
        b"",
    ),
    Case(
        "closes its streams",
        "import os, time\nfor fd in (0, 1, 2): os.close(fd)\ntime.sleep(0.2)\nos._exit(7)",
        Verdict.ERROR,
        exit_code=7,
    ),
    # Processes.
    Case(
        "child holds stdout open",
        "import os, time\nif os.fork() == 0:\n    time.sleep(300)\nprint('main ends')",
        Verdict.OK,
        b"main ends\n",
    ),
    Case(
        "daemon outlives main",
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        for fd in (0, 1, 2): os.close(fd)\n"
        "        time.sleep(300)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint('gone')",
        Verdict.OK,
        b"gone\n",
    ),
    Case("kills all it can", "import os\nos.kill(-1, 9)\nprint('alive')", Verdict.OK, b"alive\n"),
    Case("kills itself", "import os\nos.kill(os.getpid(), 9)", Verdict.SIGNALLED, signal=signal.SIGKILL),
    Case("aborts", "import os\nos.abort()", Verdict.SIGNALLED, signal=signal.SIGABRT),
    Case(
        "segfault",
        "import ctypes\nctypes.string_at(0)",
        Verdict.SIGNALLED,
        signal=signal.SIGSEGV,
    ),
    Case(
        "signals the runner",
        "import os\nfor s in (9, 19, 15, 17):\n"
        "    try: os.kill(1, s)\n"
        "    except PermissionError: print('refused')",
        Verdict.OK,
        b"refused\n" * 4,
    ),
    Case(
        "ignores every signal it may",
        "import signal, time\nfor s in range(1, 65):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: time.sleep(1)",
        Verdict.TIMEOUT,
        limits={"timeout_s": 1},
    ),
    Case("busy", "while True: pass", Verdict.TIMEOUT, limits={"timeout_s": 1}),
    Case("deaf in C", "9**9**9", Verdict.TIMEOUT, limits={"timeout_s": 1}),
    Case(
        "output before a timeout is kept",
        "print('so far')\nwhile True: pass",
        Verdict.TIMEOUT,
        b"so far\n",
        limits={"timeout_s": 1},
    ),
    Case(
        "fork bomb",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        Verdict.TIMEOUT,
        limits={"timeout_s": 2},
    ),
    # Memory.
    Case("too much at once", "x = b'x' * (600 << 20)", Verdict.OUT_OF_MEMORY, signal=signal.SIGKILL),
    Case(
        "bit by bit",
        "x = []\nwhile True: x.append(b'x' * 100_000)",
        Verdict.OUT_OF_MEMORY,
        limits={"memory_mb": 64},
    ),
    Case(
        "in a child that is missed",
        "import os\npid = os.fork()\n"
        "if pid == 0: x = b'x' * (600 << 20)\n"
        "_, status = os.waitpid(pid, 0)\nraise SystemExit(os.WTERMSIG(status))",
        Verdict.OUT_OF_MEMORY,
        exit_code=9,
    ),
    Case(
        "in a child that is not missed",
        "import os\npid = os.fork()\nif pid == 0: x = b'x' * (600 << 20)\nos.waitpid(pid, 0)\nprint('went on')",
        Verdict.OK,
        b"went on\n",
    ),
    Case("just enough", "x = b'x' * (440 << 20)\nprint(len(x) >> 20)", Verdict.OK, b"440\n"),
    # The protocol and the runner's secrets.
    Case(
        "forged frames",
        "import os\nfor fd in (1, 2): os.write(fd, b'\\x00\\x00\\x00\\x02X{}' * 3)",
        Verdict.OK,
        b"\x00\x00\x00\x02X{}" * 3,
    ),
    Case(
        "no descriptors but its own",
        "import os\nprint(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:3], "
        "len(os.listdir('/proc/self/fd')))",
        Verdict.OK,
        b"[0, 1, 2] 4\n",
    ),
    Case(
        "the runner is out of reach",
        "import os\n"
        "for name in ('mem', 'environ', 'fd', 'maps', 'cwd'):\n"
        "    try:\n"
        "        (os.listdir if name == 'fd' else os.readlink if name == 'cwd' else open)(f'/proc/1/{name}')\n"
        "        print('read', name)\n"
        "    except PermissionError: pass\n"
        "for pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) != os.getpid():\n"
        "        try: os.kill(int(pid), 0); print('reached', pid)\n"
        "        except PermissionError: pass",
        Verdict.OK,
        b"",
    ),
    Case(
        "read-only everywhere else",
        "import os\nwritable = [d for d, _, _ in os.walk('/', topdown=True) "
        "if os.access(d, os.W_OK) and not d.startswith('/proc')]\n"
        "print(sorted(writable))",
        Verdict.OK,
        b"['/dev/mqueue', '/dev/shm', '/tmp', '/work']\n",
    ),
    # What programs expect of a Python.
    Case(
        "modules of its own",
        "open('helper.py', 'w').write('x = 5')\nimport helper\nprint(helper.x, helper.__file__)",
        Verdict.OK,
        b"5 /work/helper.py\n",
    ),
    Case(
        "names that the runner uses too",
        "import sys\nprint([n for n in sys.modules if 'retort' in n], __name__, __file__)",
        Verdict.OK,
        b"[] __main__ /work/main.py\n",
    ),
    Case(
        "threads are joined",
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('joined'))).start()",
        Verdict.OK,
        b"joined\n",
    ),
    Case(
        "multiprocessing, both ways",
        "import multiprocessing as m\n"
        "def f(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    for how in ('fork', 'spawn'):\n"
        "        with m.get_context(how).Pool(2) as p: print(p.map(f, [1, 2, 3]))",
        Verdict.OK,
        b"[1, 4, 9]\n" * 2,
    ),
    Case(
        "subprocess",
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', 'print(6*7)'], capture_output=True, text=True).stdout)",
        Verdict.OK,
        b"42\n\n",
    ),
    Case(
        "traceback shows the user's lines alone",
        "def f():\n    raise ValueError('x')\nf()",
        Verdict.ERROR,
        stderr_has=b'Traceback (most recent call last):\n  File "/work/main.py", line 3, in <module>\n',
    ),
    Case(
        "stdout by its device name",
        "open('/dev/stdout', 'w').write('through the name\\n')",
        Verdict.OK,
        b"through the name\n",
    ),
]


#: What is otherwise on gVisor, or takes long there and tells nothing more; docs/tiers.md says why.
NOT_ON_GVISOR = {
    "kills all it can",  # nobody to kill is an error there
    "in a child that is missed",  # memory ends the sandbox as a whole
    "in a child that is not missed",
    "the runner is out of reach",  # the posture check looks at what matters of it
    "read-only everywhere else",  # there is no /dev/mqueue
    "multiprocessing, both ways",
    "just enough",
    "too much at once",
    "flood",
}

ON_TIERS = [
    pytest.param(case, runtime, id=f"{case.name}, {runtime}")
    for runtime in TIERS
    for case in CASES
    if runtime == "runc" or case.name not in NOT_ON_GVISOR
]


@pytest.mark.parametrize(("case", "runtime"), ON_TIERS)
def test_program(engine: docker.DockerClient, image: str, case: Case, runtime: str) -> None:
    limits = {"timeout_s": 20, **case.limits}
    decision, ending = run_once(
        case.code, limits=limits, stdin=case.stdin, args=case.args, env=case.env, runtime=runtime
    )
    shown = (decision, ending.stdout[-300:], ending.stderr[-600:])
    assert decision.verdict is case.verdict, shown
    if case.stdout is not None:
        assert ending.stdout == case.stdout, shown
    if case.stderr_has is not None:
        assert case.stderr_has in ending.stderr, shown
    if case.exit_code is not None:
        assert decision.exit_code == case.exit_code, shown
    if case.signal is not None:
        assert decision.signal == case.signal, shown


def test_usage(engine: docker.DockerClient, image: str) -> None:
    code = (
        "import time\nx = bytearray(100 << 20)\n"
        "t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    )
    decision, ending = run_once(code)
    assert decision.verdict is Verdict.OK
    assert ending.peak_bytes is not None
    # Pages that the interpreter had before, and uses again, are not charged a second time.
    assert 99 * MB <= ending.peak_bytes < 130 * MB
    assert ending.cpu_s is not None
    assert 0.3 <= ending.cpu_s < 3
    assert ending.wall_s >= 0.3
    assert ending.oom_kills == 0


def test_silent_for_long_then_ends(engine: docker.DockerClient, image: str) -> None:
    """Nothing on the way mistakes a minute of silence for the end."""
    decision, ending = run_once("import time\ntime.sleep(61)\nprint('still here')", limits={"timeout_s": 90})
    assert (decision.verdict, ending.stdout) == (Verdict.OK, b"still here\n")


def test_output_arrives_while_the_program_runs(engine: docker.DockerClient, image: str) -> None:
    seen: list[tuple[str, bytes]] = []
    with started_cell() as cell:

        def on_output(stream: str, chunk: bytes) -> None:
            seen.append((stream, chunk))
            cell.kill()  # only what arrives early can stop a program that waits for ever

        ending = cell.run(program("print('first')\nwhile True: pass"), on_output=on_output)
    assert seen == [("stdout", b"first\n")]
    assert ending.killed


def test_memory_limit_of_a_job_is_its_own(engine: docker.DockerClient, image: str) -> None:
    with started_cell() as cell:
        small = program("x = b'x' * (100 << 20)", limits={"memory_mb": 64, "timeout_s": 20})
        large = program("x = b'x' * (100 << 20)", limits={"memory_mb": 256, "timeout_s": 20})
        verdicts = []
        for each in (small, large, small):
            verdicts.append(decide(cell.run(each, reset=True)).verdict)
            assert cell.wait_clean() is None
    assert verdicts == [Verdict.OUT_OF_MEMORY, Verdict.OK, Verdict.OUT_OF_MEMORY]
