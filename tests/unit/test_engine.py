"""What we make of the engine's answers. The engine here is a script that speaks its HTTP."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from worker.sandbox.engine import Engine, EngineError

ENDED = "Could not kill running container c1, cannot remove - Container c1 is not running"


@contextmanager
def scripted(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, str]) -> Iterator[list[str]]:
    """An engine that gives these answers to removals, the last one for ever; what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            version = {"ApiVersion": "1.41", "Version": "20.10", "MinAPIVersion": "1.12"}
            self._answer(200, json.dumps(version).encode())

        def do_DELETE(self) -> None:
            status, message = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path.partition("/containers/")[2].partition("?")[0])
            self._answer(status, b"" if status == 204 else json.dumps({"message": message}).encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("answers", "times"),
    [
        (((204, ""),), 1),
        (((404, "No such container: c1"),), 1),
        (((409, "removal of container c1 is already in progress"),), 1),
        (((500, ENDED), (204, "")), 2),
        (((500, ENDED), (404, "No such container: c1")), 2),
    ],
)
def test_what_is_as_good_as_removed(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[tuple[int, str], ...], times: int
) -> None:
    with scripted(monkeypatch, *answers) as asked:
        Engine().remove("c1")
    assert asked == ["c1"] * times


@pytest.mark.parametrize(("message", "times"), [(ENDED, 2), ("device or resource busy", 1)])
def test_what_could_not_be_removed_is_said(monkeypatch: pytest.MonkeyPatch, message: str, times: int) -> None:
    with scripted(monkeypatch, (500, message)) as asked, pytest.raises(EngineError, match=message):
        Engine().remove("c1")
    assert asked == ["c1"] * times
