"""Containers as the service makes them: the same settings, the same door to the engine."""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from domain.limits import load_profiles
from worker.sandbox import images
from worker.sandbox.cell import Cell
from worker.sandbox.engine import Engine
from worker.sandbox.spec import LABEL_INSTANCE, CellSpec, container_config, new_uid

IMAGE = "python"
PROFILE = "standard"


class Bench:
    """The engine, the image and the settings of all that is measured; `close` removes what is left."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.image = images.expected_tag(IMAGE)
        self.profile = load_profiles()[PROFILE]
        self.instance = f"bench-{os.getpid()}"
        self.engine.image(self.image)["Id"]  # fails early when it is not built

    def spec(self, image: str | None = None) -> CellSpec:
        """A cell's settings, with a user of its own; of Python's image unless another is named."""
        return CellSpec(
            image=image or self.image,
            profile=self.profile,
            runtime="runc",
            instance=self.instance,
            worker=self.instance,
            uid=new_uid(),
            limits=self.profile.defaults,
        )

    def plain(self, command: Sequence[str], image: str | None = None) -> dict[str, Any]:
        """The same container with another program in it than the runner."""
        return {**container_config(self.spec(image)), "Entrypoint": list(command), "Cmd": []}

    @contextmanager
    def cell(self, image: str | None = None) -> Iterator[Cell]:
        """A started cell."""
        cell = Cell(self.engine, self.spec(image))
        try:
            cell.start()
            yield cell
        finally:
            cell.destroy()

    def output(self, command: Sequence[str], image: str | None = None) -> str:
        """What a program prints that is alone in such a container."""
        container = self.engine.create(self.plain(command, image))
        try:
            attachment = self.engine.attach(container)
            try:
                self.engine.start(container)
                return _stdout(attachment.socket).decode()
            finally:
                attachment.close()
        finally:
            self.engine.remove(container)

    def close(self) -> None:
        """Remove containers that an error left behind."""
        for container in self.engine.labelled(LABEL_INSTANCE, self.instance):
            self.engine.remove(container["Id"])


def _stdout(stream: socket.socket) -> bytes:
    """All of stream 1 until the end; the engine prefixes each chunk with its stream and length."""
    stream.settimeout(120)
    raw = bytearray()
    while data := stream.recv(1 << 16):
        raw += data
    found, at = bytearray(), 0
    while at + 8 <= len(raw):
        number, size = struct.unpack_from(">BxxxI", raw, at)
        if number == 1:
            found += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return bytes(found)
