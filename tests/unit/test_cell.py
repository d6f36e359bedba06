"""A cell whose runner may say anything: the host believes nothing that cannot be."""

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.limits import load_profiles
from worker.sandbox import cell as cells
from worker.sandbox import running
from worker.sandbox.cell import Cell
from worker.sandbox.engine import EngineDown
from worker.sandbox.frames import PROTOCOL
from worker.sandbox.running import Ending, Program
from worker.sandbox.spec import CellSpec
from worker.sandbox.stream import CellLost
from worker.sandbox.verdict import decide

STANDARD = load_profiles()["standard"]
EXIT: dict[str, Any] = {
    "status": 0,
    "wall_s": 0.1,
    "cpu_s": 0.1,
    "peak_bytes": 1000,
    "oom_kills": 0,
    "stdout_bytes": 0,
    "stderr_bytes": 0,
    "output_limit": False,
    "disk_full": False,
    "level": 0,
}


class Wire:
    """Stands for the engine: its only container is a socket whose other end the test holds."""

    def __init__(self) -> None:
        self.socket, self.runner = socket.socketpair()
        self.kills = 0
        self.down = False
        self.exit_code = 0
        self.oom_event = False

    def create(self, _: Any) -> str:
        """A container."""
        return "container"

    def attach(self, _: str) -> "Wire":
        """Its stream, which is in this object too."""
        return self

    def start(self, _: str) -> None:
        """The runner comes up."""
        self.say(b"U", orjson.dumps({"protocol": PROTOCOL}))

    def kill(self, _: str) -> None:
        """Count."""
        self.kills += 1
        if self.down:
            raise EngineDown("the engine is away")

    def update(self, *_: Any) -> None:
        """Take any limits."""

    def inspect(self, _: str) -> dict[str, Any]:
        """No memory ended."""
        return {"State": {"OOMKilled": False}}

    def wait(self, *_: Any) -> int:
        """It ended."""
        return self.exit_code

    def ran_out_of_memory(self, *_: Any) -> bool:
        """What the events say."""
        return self.oom_event

    def remove(self, _: str) -> None:
        """Gone."""

    def hung_up(self) -> bool:
        """Whether the runner hears, after all that it was sent, that we hung up: then it kills the program."""
        self.runner.settimeout(20)
        while self.runner.recv(65536):
            continue
        return True

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def say(self, kind: bytes, payload: bytes) -> None:
        """One frame of the runner."""
        frame = struct.pack(">Ic", len(payload), kind) + payload
        self.runner.sendall(struct.pack(">BxxxI", 1, len(frame)) + frame)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """An engine."""
    made = Wire()
    yield made
    made.socket.close()
    made.runner.close()


def started(wire: Wire) -> Cell:
    """A cell whose runner is up."""
    spec = CellSpec("image", STANDARD, "runc", "test", "w", 1_000_000, STANDARD.defaults)
    cell = Cell(wire, spec)  # type: ignore[arg-type]
    cell.start()
    return cell


def run(wire: Wire, *said: tuple[bytes, Any], timeout_s: int = 60) -> Ending:
    """Run a program of which the runner says this."""
    cell = started(wire)
    for kind, payload in said:
        wire.say(kind, payload if isinstance(payload, bytes) else orjson.dumps(payload))
    limits = STANDARD.resolve({"timeout_s": timeout_s, "output_bytes": 1024})
    try:
        return cell.run(Program(b"", "main.py", limits))
    finally:
        cell.destroy()


def test_an_ordinary_end(wire: Wire) -> None:
    ending = run(wire, (b"O", b"out"), (b"E", b"err"), (b"T", {"cpu_s": 0.05, "memory": 500}), (b"X", EXIT))
    assert (ending.status, ending.stdout, ending.stderr) == (0, b"out", b"err")
    assert (ending.stdout_bytes, ending.cpu_s, ending.peak_bytes) == (3, 0.1, 1000)
    assert [ending.timed_out, ending.killed, ending.output_limit] == [False] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": None},
        {"status": 0x7F},  # stopped, not ended
        {"status": 0x137F},
        {"status": 0xFFFF},  # continued
        {"status": -1},
        {"status": 1 << 20},
        {"status": "0"},
        {"status": True},
        {"wall_s": None},
        {"wall_s": -1},
        {"wall_s": "1"},
        {"cpu_s": None},
        {"cpu_s": 1e10},
        {"peak_bytes": -1},
        {"peak_bytes": 1 << 60},
        {"oom_kills": -1},
        {"oom_kills": []},
        {"stdout_bytes": None},
        {"stderr_bytes": 1 << 60},
        {"level": 101},
    ],
    ids=str,
)
def test_an_end_that_cannot_be(wire: Wire, wrong: dict[str, Any]) -> None:
    with pytest.raises(CellLost):
        run(wire, (b"X", {**EXIT, **wrong}))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"X", b"not JSON"),
        (b"X", []),
        (b"X", {}),
        (b"T", {"cpu_s": "much"}),
        (b"T", {"memory": -5}),
        (b"T", b"\xff"),
        (b"U", {"protocol": PROTOCOL}),  # once was enough
        (b"C", {"clean": True}),  # nobody asked yet
        (b"P", b"7"),
        (b"J", b""),
    ],
)
def test_what_no_runner_says_during_a_job(wire: Wire, kind: bytes, payload: Any) -> None:
    with pytest.raises(CellLost):
        run(wire, (kind, payload), (b"X", EXIT))


def test_more_output_than_a_runner_can_have_left_is_refused(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "OVERSHOOT", 10)
    assert run(wire, (b"O", b"x" * 1034), (b"X", EXIT)).stdout_bytes == 1034
    with pytest.raises(CellLost, match="more output"):
        run(Wire(), (b"O", b"x" * 1035), (b"X", EXIT))


def lost(wire: Wire) -> Ending:
    """Run a program whose container ends without a word."""
    cell = started(wire)
    wire.runner.shutdown(socket.SHUT_WR)
    try:
        return cell.run(Program(b"", "main.py", STANDARD.defaults))
    finally:
        cell.destroy()


def test_that_memory_ended_is_also_seen_in_an_event_that_came_after_the_end(wire: Wire) -> None:
    wire.exit_code, wire.oom_event = 137, True
    assert lost(wire).container_oom


@pytest.mark.parametrize(("code", "event"), [(137, False), (1, True), (0, True)])
def test_an_end_that_memory_does_not_explain_is_a_loss(wire: Wire, code: int, event: bool) -> None:
    wire.exit_code, wire.oom_event = code, event
    with pytest.raises(CellLost):
        lost(wire)


def test_output_beyond_the_limit_is_cut_whatever_the_runner_says_of_it(wire: Wire) -> None:
    ending = run(wire, (b"O", b"a" * 1024 + b"b"), (b"E", b"why"), (b"X", EXIT))
    assert ending.output_limit
    assert (ending.stderr, ending.stderr_head) == (b"why", None)
    assert (len(ending.stdout), ending.stdout_head, ending.stdout_bytes) == (1021, 511, 1025)
    assert ending.stdout.endswith(b"ab")


@pytest.fixture
def clock_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program have used two seconds at once."""
    monkeypatch.setattr(running, "SLACK_S", 2.0)


def test_no_more_cpu_time_is_believed_than_there_was(wire: Wire) -> None:
    cell = started(wire)
    wire.say(b"T", orjson.dumps({"cpu_s": 99.0}))
    wire.say(b"X", orjson.dumps({**EXIT, "cpu_s": 99.0}))
    ending = cell.run(Program(b"", "main.py", STANDARD.resolve({"cpu_s": 60})))
    assert ending.cpu_s is not None
    assert ending.cpu_s < 60
    assert not ending.cpu_limit


@pytest.mark.usefixtures("clock_ahead")
def test_used_up_cpu_time_ends_a_program(wire: Wire) -> None:
    limits = STANDARD.resolve({"cpu_s": 1})
    cell = started(wire)
    wire.say(b"T", orjson.dumps({"cpu_s": 0.9}))
    wire.say(b"T", orjson.dumps({"cpu_s": 1.0}))
    ending = cell.run(Program(b"", "main.py", limits))
    assert (ending.cpu_limit, ending.cpu_s, ending.timed_out) == (True, 1.0, False)
    assert wire.hung_up()


@pytest.mark.usefixtures("clock_ahead")
def test_a_program_that_ended_beyond_its_cpu_time_is_late_all_the_same(wire: Wire) -> None:
    cell = started(wire)
    wire.say(b"X", orjson.dumps({**EXIT, "cpu_s": 1.01}))
    ending = cell.run(Program(b"", "main.py", STANDARD.resolve({"cpu_s": 1})))
    assert (ending.cpu_limit, ending.status, wire.kills) == (True, 0, 0)


def test_a_runner_that_hangs_up_is_lost(wire: Wire) -> None:
    cell = started(wire)
    wire.runner.shutdown(socket.SHUT_WR)
    with pytest.raises(CellLost):
        cell.run(Program(b"", "main.py", STANDARD.defaults))


KINDS = st.sampled_from([b"O", b"T", b"P", b"X", b"C", b"U"])
FACTS = st.none() | st.booleans() | st.integers(-9, 1 << 17) | st.text()


@given(st.lists(st.tuples(KINDS, st.binary(max_size=50)), max_size=5))
def test_whatever_a_runner_says_there_is_an_ending_or_a_loss(said: list[tuple[bytes, bytes]]) -> None:
    wire = Wire()
    try:
        decide(run(wire, *said, (b"X", EXIT)))
    except CellLost:
        pass
    finally:
        wire.close()
        wire.runner.close()


@given(st.dictionaries(st.sampled_from(sorted(EXIT)), FACTS))
def test_whatever_an_exit_says_there_is_a_verdict_or_a_loss(facts: dict[str, Any]) -> None:
    wire = Wire()
    try:
        decide(run(wire, (b"X", {**EXIT, **facts})))
    except CellLost:
        pass
    finally:
        wire.close()
        wire.runner.close()


def test_silence_ends_at_the_time_limit(wire: Wire) -> None:
    ending = run(wire, (b"O", b"so far"), timeout_s=1)
    assert (ending.timed_out, ending.stdout) == (True, b"so far")
    assert wire.hung_up()


def test_a_time_limit_holds_while_the_engine_is_away(wire: Wire) -> None:
    wire.down = True
    assert run(wire, timeout_s=1).timed_out


def test_no_chatter_outlasts_the_time_limit(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "OVERRUN_S", 0.1)
    done = threading.Event()

    def chatter() -> None:
        while not done.is_set():
            try:
                for _ in range(100):
                    wire.say(b"O", b"")
            except OSError:
                return

    cell = started(wire)
    talker = threading.Thread(target=chatter, daemon=True)
    talker.start()
    try:
        ending = cell.run(Program(b"", "main.py", STANDARD.resolve({"timeout_s": 1})))
    finally:
        done.set()
        cell.destroy()
        wire.runner.close()
        talker.join(30)
    assert ending.timed_out


def test_a_killed_cell_has_no_verdict(wire: Wire) -> None:
    cell = started(wire)
    cell.kill()
    wire.runner.shutdown(socket.SHUT_WR)
    ending = cell.run(Program(b"", "main.py", STANDARD.defaults))
    assert ending.killed
    assert ending.status is None


def test_a_runner_of_another_version_is_not_used(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "PROTOCOL", PROTOCOL + 1)
    with pytest.raises(CellLost, match="protocol"):
        started(wire)


def test_an_idle_cell_that_says_something_is_not_used(wire: Wire) -> None:
    cell = started(wire)
    assert cell.alive()
    wire.say(b"O", b"psst")
    assert not cell.alive()


def test_a_connection_that_another_thread_closed_is_a_cell_that_is_not_alive(wire: Wire) -> None:
    cell = started(wire)
    assert cell.alive()
    assert cell._stream._socket is not None
    cell._stream._socket.close()
    assert not cell.alive()
