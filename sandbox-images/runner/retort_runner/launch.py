"""How a program is started that is not Python's: what `/opt/retort/launch` says.

A line for each key, its values separated by tabs; image.toml has the same in a form for people:

- `file`: the name of the program that a prestarted interpreter waits for.
- `command`: the interpreter's path, the name it is called by, and its arguments. `{file}` stands for the
  program's path, `{memory_mb}` for the container's memory.
- `before_args`: goes before a job's arguments, if it has any.
- `env`: variables it is given.
- `compile`: makes a program of the file first, in a phase of its own.
- `prestart`, `prestart_env`: an interpreter that is up already and waits for its program (prestart.py).
- `cold`: beginnings of names; a job that sets such a variable gets an interpreter that saw it at its start.
"""

from __future__ import annotations

import os

from retort_runner.wire import REHEARSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from retort_runner.cgroup import Counters

_LAUNCH = "/opt/retort/launch"


class Launch:
    """See the module. `counters` know the container's memory."""

    def __init__(self, lines: dict[str, list[str]], counters: Counters) -> None:
        self.file = lines["file"][0]
        self.command = lines["command"]
        self.compile = lines.get("compile", [])
        self.prestart = lines.get("prestart", [])
        self._before_args = lines.get("before_args", [])
        self._env = lines.get("env", [])
        self._prestart_env = lines.get("prestart_env", [])
        self._cold = tuple(lines.get("cold", ()))
        self._counters = counters

    @classmethod
    def read(cls, counters: Counters) -> Launch | None:
        """What the image says; None for Python's, whose programs are forked instead."""
        try:
            with open(_LAUNCH, encoding="utf-8") as file:
                lines = [line.split("\t") for line in file.read().splitlines()]
        except FileNotFoundError:
            return None
        return cls({key: values for key, *values in lines}, counters)

    def rehearsal(self) -> Launch:
        """The same for `wire.REHEARSAL`, with a small program instead of compiler and interpreter."""
        cat = ["/bin/cat", "cat"]
        lines = {"file": [REHEARSED], "command": [*cat, "{file}"]}
        prestart = {"prestart": [*cat, "/proc/self/fd/3"]} if self.prestart else {}
        return Launch({**lines, **prestart}, self._counters)

    def memory_mb(self) -> int:
        """The container's memory now, which interpreters are told."""
        return self._counters.limit_mb()

    def needs_cold(self, header: dict[str, Any]) -> bool:
        """Whether a job cannot be served by an interpreter that is up already."""
        return header["file"] != self.file or any(name.startswith(self._cold) for name in header["env"])

    def cold(self, header: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Command and environment of an interpreter that starts with the program."""
        argv = self._filled(self.command, header["file"])
        args = [*self._before_args, *header["args"]] if header["args"] else []
        return [*argv, *args], {**self._environment(self._env, header["file"]), **header["env"]}

    def ahead(self) -> tuple[list[str], dict[str, str]]:
        """Command and environment of one that starts ahead."""
        env = self._environment([*self._env, *self._prestart_env], self.file)
        return self._filled(self.prestart, self.file), env

    def compiler(self, header: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Command and environment of the compiler; the job's variables are not its business."""
        return self._filled(self.compile, header["file"]), self._environment(self._env, header["file"])

    def _environment(self, settings: list[str], file: str) -> dict[str, str]:
        pairs = [text.split("=", 1) for text in self._filled(settings, file)]
        return {**os.environ, **{pair[0]: pair[1] for pair in pairs}}

    def _filled(self, texts: list[str], file: str) -> list[str]:
        memory = str(self.memory_mb())
        return [text.replace("{file}", f"/work/{file}").replace("{memory_mb}", memory) for text in texts]
