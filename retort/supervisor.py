"""`retort up`: start what a machine needs for the service, keep it running, end it in order.

Everything runs in one loop of the main thread. Threads would break what we promise: children are told of our
death by the kernel, and the kernel means the thread that started them.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from retort import commands, engine, processes, readiness
from retort.children import WORKERS, Managed, describe_exit, end_recorded
from retort.embedded import EmbeddedError, Postgres, Valkey, socket_folder
from retort.logs import Follower
from retort.processes import Program
from retort.starting import StartFailed, free_port, run_once, start_hello
from retort.state import StateFolder

TICK_S = 0.1
CHECK_EVERY_S = 5.0  # once ready; before that at every other tick
OWN_CHECK = '"path":"/readyz"'  # in the API's log; not shown, a person has the line that says "ready"
STEADY_S = 60.0  # after so long a crash counts as the first again
LONGEST_DELAY_S = 30.0
CRASHES_AT_START = 4  # of one process before the service was ever ready: then it will not get better


@dataclass(frozen=True)
class Options:
    """What a person chose."""

    host: str
    port: int  # 0: any that is free
    database_url: str | None  # None: embedded
    redis_url: str | None
    grace_s: float = 30.0  # for jobs to end
    show_logs: bool = True
    show_key: bool = True
    hello: bool = False


class Supervisor:
    """One run of the service from start to end."""

    def __init__(self, state: StateFolder, options: Options, say: Callable[[str, str], None]) -> None:
        self._state = state
        self._options = options
        self._say = say
        self._managed: list[Managed] = []  # in the order in which they start
        self._followers = {name: Follower(self._log(name)) for name in ("api", *WORKERS, "up")}
        self._asked_to_stop = False
        self._stopping = False
        self._waiting_for: str | None = "its processes"
        self._was_ready = False
        self._next_check = 0.0
        self._written: dict[str, Any] = {}
        self._hello: subprocess.Popen[bytes] | None = None
        self._port = options.port
        self._sockets = state.sockets

    def run(self) -> int:
        """Until a signal asks to stop; the exit code for the shell.

        Raises:
            AlreadyRunning: another supervisor holds the folder.
        """
        with self._state.hold(), self._signals():
            try:
                self._start()
                while not self._asked_to_stop:
                    self._tick()
                    time.sleep(TICK_S)
            except (StartFailed, EmbeddedError) as reason:
                self._say("retort", str(reason))
                return 1
            except KeyboardInterrupt:  # twice while starting
                return 130
            finally:
                self._stop()
        return 0

    # Start.

    def _start(self) -> None:
        began = time.monotonic()
        end_recorded(self._state)
        self._port = free_port(self._options.host, self._options.port)
        self._sockets = socket_folder(self._state.sockets)
        database_url = self._options.database_url or self._embedded("postgres", Postgres)
        redis_url = self._options.redis_url or self._embedded("valkey", Valkey)
        env = commands.environment(
            RETORT_DATABASE_URL=database_url,
            RETORT_REDIS_URL=redis_url,
            RETORT_STATE_DIR=str(self._state.root),
            RETORT_INSTANCE=self._state.instance,
            RETORT_HOST=self._options.host,
            RETORT_PORT=str(self._port),
        )
        if not any(env.get(name) for name in commands.WEBHOOK_KEYS):
            env["RETORT_WEBHOOK_KEY_FILE"] = str(self._state.webhook_key_file())
        if not self._asked_to_stop:
            run_once("the migrations", commands.migrate(), env, self._log("setup"))
            self._first_key(env)
        if not self._asked_to_stop:
            polite = ((signal.SIGTERM, self._options.grace_s),)
            self._launch("api", Program("API", commands.api(), log=self._log("api"), env=commands.for_api(env),
                                        steps=((signal.SIGTERM, 15.0),)))  # fmt: skip
            programs, models = commands.for_workers(env, self._state.instance)
            self._launch(
                "worker",
                Program("worker", commands.worker(), log=self._log("worker"), env=programs, steps=polite),
            )
            if models is not None:
                self._launch(
                    "models",
                    Program("models", commands.worker(), log=self._log("models"), env=models, steps=polite),
                )
            self._launch(
                "hooks",
                Program("hooks", commands.hooks(), log=self._log("hooks"), env=commands.for_hooks(env),
                        steps=((signal.SIGTERM, 15.0),)))  # fmt: skip
            self._say("retort", f"started in {time.monotonic() - began:.1f} s; waiting until it is ready")

    def _embedded(self, name: str, kind: type[Postgres] | type[Valkey]) -> str:
        if self._asked_to_stop:
            return ""
        server = kind(self._state.root / name, self._sockets, self._log(name))
        self._followers[name] = Follower(server.log)
        fresh = not server.data_dir.exists()
        self._say("retort", f"{server.title}: {'creating its data' if fresh else 'starting'}")
        self._launch(name, server)
        return server.url

    def _launch(self, name: str, runs: Program | Postgres | Valkey) -> None:
        runs.start()
        self._managed.append(Managed(name, runs))
        self._publish()

    def _first_key(self, env: dict[str, str]) -> None:
        creating = "creating the first API key"
        key = run_once(creating, commands.first_key("local"), env, self._log("setup")).decode().strip()
        if key:
            self._state.keep_api_key(key)
            if self._options.show_key:
                self._say("retort", f"the first API key, shown only now: {key}")
            self._say("retort", f"the API key is kept in {self._state.api_key_file}; `retort env` prints it")
        elif self._state.api_key() is None:
            self._say("retort", "the database has API keys, none of them known in this folder")

    # Run.

    def _tick(self) -> None:
        now = time.monotonic()
        for managed in self._managed:
            self._keep_running(managed, now)
        if now >= self._next_check:
            self._check()
            self._next_check = now + (CHECK_EVERY_S if self._waiting_for is None else 2 * TICK_S)
        self._show_logs()
        self._await_hello()
        self._publish()

    def _keep_running(self, managed: Managed, now: float) -> None:
        if managed.again_at is None:
            code = managed.exit_code()
            if code is None:
                return
            self._show_logs()
            if now - managed.started_at > STEADY_S:
                managed.delay_s, managed.crashes = 0.5, 0
            managed.crashes += 1
            title = managed.runs.title
            self._say("retort", f"{title} {describe_exit(code)}; it starts again in {managed.delay_s:g} s")
            if not self._was_ready and managed.crashes >= CRASHES_AT_START:
                tail = processes.last_lines(managed.runs.log)
                raise StartFailed(f"{title} ended {managed.crashes} times. The end of its log:\n{tail}")
            managed.again_at = now + managed.delay_s
            managed.delay_s = min(2 * managed.delay_s, LONGEST_DELAY_S)
            self._next_check = 0.0
        elif now >= managed.again_at:
            managed.again_at, managed.started_at = None, now
            try:
                managed.runs.start()
            except EmbeddedError as reason:
                self._say("retort", str(reason))
                managed.again_at = time.monotonic() + managed.delay_s
                managed.delay_s = min(2 * managed.delay_s, LONGEST_DELAY_S)

    def _check(self) -> None:
        found = readiness.ask(self._options.host, self._port)
        why_not = None if found.ok else found.why_not
        if why_not == self._waiting_for:
            return
        self._waiting_for = why_not
        if why_not is not None:
            self._say("retort", f"{'not ready' if self._was_ready else 'waiting'}: {why_not}")
            return
        self._say("retort", f"ready: {self._url}")
        if not self._was_ready:
            self._was_ready = True
            self._first_ready()

    def _first_ready(self) -> None:
        self._say("retort", 'to use it: eval "$(retort env)"; retort run FILE')
        if self._options.hello:
            key = self._state.api_key() or os.environ.get("RETORT_API_KEY", "")
            self._hello = start_hello(self._url, key)

    def _await_hello(self) -> None:
        if self._hello is not None and self._hello.poll() is not None:
            if self._hello.returncode:
                self._say(
                    "retort", f"the first job failed (`retort run` {describe_exit(self._hello.returncode)})"
                )
            self._hello = None

    def _show_logs(self) -> None:
        for name, follower in self._followers.items():
            follower.bound()
            if self._options.show_logs and name in ("api", *WORKERS):
                for line in follower.lines():
                    if OWN_CHECK not in line:
                        self._say(name, line)

    @property
    def _url(self) -> str:
        return readiness.service_url(self._options.host, self._port)

    def _log(self, name: str) -> Any:
        return self._state.logs / f"{name}.log"

    def _publish(self) -> None:
        """Let `retort status` see what changed."""
        status = {
            "supervisor": os.getpid(),
            "url": self._url,
            "host": self._options.host,
            "port": self._port,
            "ready": self._waiting_for is None,
            "stopping": self._stopping,
            "waiting_for": self._waiting_for,
            "processes": {managed.name: managed.facts() for managed in self._managed},
        }
        if status != self._written:
            self._state.write_status(status)
            self._written = status

    # Stop.

    def _stop(self) -> None:
        """Worker first, so that its jobs can still be recorded; the database last."""
        self._stopping = True
        self._waiting_for = "its end"
        for managed in reversed(self._managed):
            if managed.name == "worker" and managed.exit_code() is None:
                self._say("retort", f"stopping; up to {self._options.grace_s:g} s for running jobs to end "
                                    "(again to end them now)")  # fmt: skip
            code = managed.runs.stop()
            if managed.name == "worker" and code is not None and code < 0:
                engine.remove_sandboxes(self._state.instance)  # killed: it could not do so itself
            self._show_logs()
        if self._hello is not None:
            self._hello.kill()
            self._hello.wait()
        if self._sockets != self._state.sockets:
            with suppress(OSError):
                self._sockets.rmdir()
        self._state.forget_status()
        self._say("retort", "stopped")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def asked(_number: int, _frame: FrameType | None) -> None:
            if self._stopping:
                for managed in self._managed:
                    if isinstance(managed.runs, Program):
                        managed.runs.hurry()
            elif self._asked_to_stop:
                raise KeyboardInterrupt
            self._asked_to_stop = True

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, asked) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
