"""A receiver of webhooks on loopback, in threads of the test, and the process that sends to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """What it says."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def verify(self, secret: str) -> None:
        """Hold the signature against a secret, by the reference library; raises if it is not good."""
        Webhook(secret).verify(self.body, dict(self.headers))


#: What a receiver does with a request: a status, or a function that answers by itself.
Answer = int | Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """Serves HTTP; keeps every request. Made by `receiving`."""

    def __init__(self, host: str) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], Answer] = lambda _: 204
        self.ending = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                outer.received.append(got)
                answer = outer.answer(got)
                with suppress(OSError):  # who sent it may have hung up
                    if isinstance(answer, int):
                        self.send_response(answer)
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                    else:
                        answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                """Who sent it may have hung up."""

        self.server = Quiet((host, 0), Handler)
        self.port: int = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}/hook"

    def hang(self, _: BaseHTTPRequestHandler) -> None:
        """Answer nothing."""
        self.ending.wait(60)

    def never_stop(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer well, and go on for ever."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not self.ending.is_set():
            handler.wfile.write(b"x" * 65536)

    def never_begin(self, handler: BaseHTTPRequestHandler) -> None:
        """Say for ever that the answer comes soon."""
        while not self.ending.is_set():
            handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            time.sleep(0.001)

    def endless_head(self, handler: BaseHTTPRequestHandler) -> None:
        """Never come to the end of the head."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.ending.is_set():
            handler.wfile.write(b"X-Header: " + b"x" * 1000 + b"\r\n")

    def ids(self) -> set[str]:
        """The ids of the messages that came."""
        return {each.id for each in self.received}


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer that leads elsewhere."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    """A receiver, for a while."""
    receiver = Receiver(host)
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ending.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(10)


def unused_port(host: str = "127.0.0.1") -> int:
    """A port at which nobody listens."""
    with socket.socket() as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def sending(log: Path, database_url: str, key: str, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m worker.hooks.main`, its log in a file; ended as an operator ends it."""
    given = {"database_url": database_url, "webhook_key": key, **settings}
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.hooks.main"],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                **{f"RETORT_{name.upper()}": value for name, value in given.items()},
            },
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
