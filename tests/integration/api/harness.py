"""A served API, a judge that holds answers against the OpenAPI document, and a stand-in for a worker."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import redis
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, func, insert, select, update

from api import keys, schemas
from api.all_schemas import MODELS
from domain import claiming, finishing
from domain.bell import STATES_CHANNEL, state_message
from domain.quotas import USUAL_SCOPES, Scope
from domain.tables.caller import api_keys
from domain.tables.job import jobs
from domain.tables.worker import workers
from tests.harness import eventually

ROOT = Path(__file__).parents[3]
PROBLEM = "application/problem+json"


class Server:
    """`python -m api` on a free loopback port, its log in a file.

    `settings` are ours; one in capitals is a variable of that very name. `program`: a module that runs the API.
    """

    def __init__(
        self,
        log: Path,
        database_url: str,
        redis_url: str,
        *,
        program: str = "api",
        source: str | Path = ROOT,
        **settings: str,
    ) -> None:
        self.log = log
        environment = {
            **os.environ,
            "PYTHONPATH": str(source),
            "RETORT_DATABASE_URL": database_url,
            "RETORT_REDIS_URL": redis_url,
            "RETORT_PORT": "0",
            **{name if name.isupper() else f"RETORT_{name.upper()}": value for name, value in settings.items()},
        }
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", program],
                cwd=source,
                env=environment,
                stderr=stderr,
            )
        eventually(lambda: self._port() is not None or self.process.poll() is not None, "the server listens")
        assert self.process.poll() is None, log.read_text()
        self.url = f"http://127.0.0.1:{self._port()}"

    def _port(self) -> int | None:
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log.read_text())
        return int(found[1]) if found else None

    def pulse(self) -> tuple[int, dict[str, Any]]:
        """What it says of its health on the port for metrics, which it must have: status and document."""
        status, body = self._told("/healthz")
        return status, json.loads(body)

    def pulse_metrics(self) -> str:
        """The metrics there."""
        return self._told("/metrics")[1].decode()

    def _told(self, path: str) -> tuple[int, bytes]:
        """An answer of that port. Without a client that is made anew each time: its answers are timed."""
        found = re.search(r"metrics can be read at http://(127\.0\.0\.1:\d+)/metrics", self.log.read_text())
        assert found, self.log.read_text()
        connection = http.client.HTTPConnection(found[1], timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]

    def stop(self) -> int:
        """Ask it to end, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def unfinished_post(url: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Announce a body of 1,000 bytes, send none of it, and read the answer: status and document."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/v1/jobs")
    for name, value in {"Content-Type": "application/json", "Content-Length": "1000", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    try:
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Contract:
    """The OpenAPI document as a judge of answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.paths: dict[str, dict[str, Any]] = document["paths"]
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{name}", ".+")) + r"\Z"), methods)
            for path, methods in self.paths.items()
        ]

    def check(self, response: httpx.Response) -> None:
        """Fail on an answer that is not declared, or whose body is not as declared."""
        response.read()
        media_type = response.headers.get("content-type")
        declared = self._declared(response.request)
        assert response.headers["x-request-id"]
        assert response.headers["x-content-type-options"] == "nosniff"
        if declared is None:
            assert response.status_code in {401, 404, 405}
            _validate(schemas.ProblemDocument, response)
            return
        said = declared["responses"].get(str(response.status_code))
        assert said is not None, f"{response.status_code} is not declared for {response.request.url.path}"
        if media_type is None:
            assert (said.get("content", {}), response.content) == ({}, b"")
            return
        if "*/*" in said["content"]:
            return  # anything at all
        if media_type.startswith("text/csv"):
            assert "text/csv" in said["content"]
            return
        reference = said["content"][media_type]["schema"]["$ref"]
        model = MODELS[reference.rpartition("/")[2]]
        if media_type == "application/x-ndjson":
            for line in response.content.splitlines():
                model.model_validate_json(line, strict=True)
            return
        _validate(model, response)

    def _declared(self, request: httpx.Request) -> dict[str, Any] | None:
        for pattern, methods in self._patterns:
            if pattern.match(request.url.path):
                found: dict[str, Any] | None = methods.get(request.method.lower())
                return found
        return None


def _validate(model: type[BaseModel], response: httpx.Response) -> None:
    model.model_validate_json(response.content, strict=True)
    if model is schemas.ProblemDocument:
        problem = response.json()
        assert response.headers["content-type"] == PROBLEM
        assert problem["status"] == response.status_code
        assert problem["request_id"] == response.headers["x-request-id"]


class Store:
    """The database and the event bus as tests reach them, and what a worker does there."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.engine: Engine = create_engine(database_url)
        self.redis = redis.Redis.from_url(redis_url)
        self._tokens: dict[UUID, UUID] = {}

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self.redis.close()

    def key(self, caller: str, scopes: Sequence[Scope] = USUAL_SCOPES) -> str:
        """A new key."""
        with self.engine.begin() as connection:
            key = keys.create(connection, caller, scopes=scopes)
        assert key is not None
        return key

    def revoke_all_keys(self) -> None:
        """End every key there is."""
        with self.engine.begin() as connection:
            connection.execute(update(api_keys).values(revoked_at=func.now()))

    def serve_models(self, *names: str) -> None:
        """A worker whose gateway serves these models, and that stays for the test."""
        gateways = [{"name": "default", "dialect": "openai", "models": list(names)}]
        facts = {"roles": ["sandbox", "model"], "gateways": gateways}
        far = func.now() + func.make_interval(0, 0, 0, 1)
        with self.engine.begin() as connection:
            row = {"instance": "serves", "ready": True, "facts": facts, "seen_at": far}
            connection.execute(insert(workers).values(row))

    def count_jobs(self) -> int:
        """How many jobs are stored."""
        with self.engine.begin() as connection:
            return int(connection.execute(select(func.count()).select_from(jobs)).scalar_one())

    def rings(self) -> int:
        """Messages for workers that nobody took."""
        return int(self.redis.llen("sandbox"))

    def only_job(self) -> UUID | None:
        """The id of the one stored job."""
        with self.engine.begin() as connection:
            found: UUID | None = connection.execute(select(jobs.c.id)).scalar_one_or_none()
            return found

    def claim(self, job_id: UUID) -> UUID:
        """Claim a job as a worker does."""
        token = uuid4()
        with self.engine.begin() as connection:
            claimed = connection.execute(
                claiming.CLAIM,
                {"b_id": job_id, "b_token": token, "b_worker": "test", "b_states": ["running"]},
            ).first()
        assert claimed is not None
        return token

    def retry(self, job_id: UUID) -> None:
        """One run that failed for the sandbox's sake."""
        token = self.claim(job_id)
        values = _attempt(verdict=None, failure="engine_error", sandbox_start=None)
        with self.engine.begin() as connection:
            connection.execute(finishing.RETRY, {"b_id": job_id, "b_token": token, **values})

    def begin(self, job_id: UUID) -> None:
        """Claim a job, and tell that it runs."""
        self._tokens[job_id] = self.claim(job_id)
        self.redis.publish(STATES_CHANNEL, state_message(job_id, "running"))

    def end(self, job_id: UUID, *, verdict: str = "ok", **values: Any) -> None:
        """End a job that was begun."""
        self._end(job_id, self._tokens.pop(job_id), verdict=verdict, **values)
        self.redis.publish(STATES_CHANNEL, state_message(job_id, "finished"))

    def finish(self, job_id: UUID, *, publish: bool = True, verdict: str = "ok", **values: Any) -> None:
        """Run a job as a worker does, without a sandbox."""
        self._end(job_id, self.claim(job_id), verdict=verdict, **values)
        if publish:
            self.redis.publish(STATES_CHANNEL, state_message(job_id, "finished"))

    def _end(
        self, job_id: UUID, token: UUID, *, verdict: str, kept: Sequence[dict[str, Any]] = (), **values: Any
    ) -> None:
        left = {"kept": json.dumps(kept), "a_artifacts": len(kept), "a_left_out": None, "a_results": None}
        with self.engine.begin() as connection:
            number = connection.execute(
                finishing.WITH_LEAVINGS[finishing.FINISH] if kept else finishing.FINISH,
                {
                    **(left if kept else {}),
                    "b_id": job_id,
                    "b_token": token,
                    "b_verdict": verdict,
                    "b_reason": None,
                    **_attempt(verdict=verdict, **values),
                },
            ).scalar_one_or_none()
        assert number is not None


def _attempt(**values: Any) -> dict[str, Any]:
    usual = {
        **dict.fromkeys(finishing.ATTEMPT_FIELDS),
        "exit_code": 0,
        "stdout": b"",
        "stderr": b"",
        "wall_s": 0.25,
        "cpu_s": 0.125,
        "peak_memory_bytes": 2**20,
        "oom_kills": 0,
        "sandbox_start": "warm",
        "sandbox_start_s": 0.001,
        "sandbox_reused": False,
        **values,
    }
    for stream in ("stdout", "stderr"):
        if usual[f"{stream}_bytes"] is None:
            usual[f"{stream}_bytes"] = len(usual[stream])
    return {f"a_{name}": value for name, value in usual.items()}
