"""Errors of ours stay ours: logged once, with the request id, and never shown."""

import asyncio
import logging

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from api.edge import Edge
from api.problems import unavailable
from domain.logs import JsonFormatter


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("secret of ours")


async def failing_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("secret of ours")


async def down(scope: Scope, receive: Receive, send: Send) -> None:
    raise unavailable("not now", 7)


def client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Edge(app))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def get(app: object, path: str = "/v1/x") -> httpx.Response:
    async with client(app) as opened:
        return await opened.get(path)


def run(app: object) -> httpx.Response:
    return asyncio.run(get(app))


def test_an_unhandled_error(caplog: pytest.LogCaptureFixture) -> None:
    answer = run(failing)
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["type"] == "urn:retort:problem:internal"
    assert "secret" not in answer.text
    (logged,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert vars(logged)["request_id"] == problem["request_id"] == answer.headers["x-request-id"]
    assert "secret of ours" in JsonFormatter().format(logged)


def test_an_error_after_the_answer_began_cuts_it_off() -> None:
    with pytest.raises(ValueError, match="secret"):
        run(failing_late)


def test_a_problem_from_a_layer() -> None:
    answer = run(down)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
