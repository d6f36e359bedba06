"""Calls of the client as they would go on, step by step: they are generators, so no service is needed."""

from typing import Any

import httpx

from api.problems import Kind
from retort.client import Config
from retort.client.calls import Calls
from retort.client.steps import Request, Send, Sleep

JOB = {"id": "j", "state": "finished", "verdict": "ok"}
PROBLEM = "urn:retort:problem:"


def answer(status: int, document: Any = JOB, **headers: str) -> httpx.Response:
    """An answer of the service."""
    return httpx.Response(
        status, json=document, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def problem(kind: Kind, **headers: str) -> httpx.Response:
    """A refusal."""
    found = kind.value
    document = {"type": kind.type, "title": found[2], "status": found[1], "detail": "d", "request_id": "r"}
    return answer(found[1], document, **headers)


class Asked:
    """A call that is asked step by step, and what it did so far."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps
        self.sent: list[Request] = []
        self.slept: list[float] = []
        self.result: Any = None

    def answered(self, *replies: httpx.Response | Exception) -> "Asked":
        """Answer each request in turn; there must be as many as replies."""
        left = list(replies)
        step = next(self.steps)
        try:
            while True:
                if isinstance(step, Sleep):
                    self.slept.append(step.seconds)
                    step = self.steps.send(None)
                    continue
                assert isinstance(step, Send)
                self.sent.append(step.request)
                reply = left.pop(0)
                step = self.steps.throw(reply) if isinstance(reply, Exception) else self.steps.send(reply)
        except StopIteration as end:
            self.result = end.value
        assert left == []
        return self


def calls(**settings: Any) -> Calls:
    """Calls of a client with these settings."""
    return Calls(Config(**{"url": "http://127.0.0.1:1", "api_key": "rt_k", **settings}), None, None)


def submit(client: Calls, **options: Any) -> Asked:
    """A call that submits a program."""
    return Asked(Calls.submit(client, "print(1)", **options))
