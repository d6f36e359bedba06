"""Submit a job over HTTP and wait for its end: what `retort run` does, with no terminal in it."""

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from retort.state import StateFolder

DEFAULT_URL = "http://127.0.0.1:8000"
WAIT_S = 30  # one long poll
PATIENCE_S = 30.0  # for a service that stopped answering while a job runs

FINAL_STATES = frozenset({"finished", "cancelled", "broken"})

Job = dict[str, Any]


class ClientError(Exception):
    """There is no job to report on. The tree: `Unreachable`, `Refused`."""


class Unreachable(ClientError):
    """Nobody answers at that address."""


class Refused(ClientError):
    """The service answered with a problem document."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Service:
    """Where a service is, and the key to it."""

    url: str
    key: str | None

    @classmethod
    def find(cls, env: Mapping[str, str] = os.environ, state: StateFolder | None = None) -> "Service":
        """`RETORT_URL` and `RETORT_API_KEY`; what is not set comes from the state folder.

        The key of the state folder goes to the service of that folder and to no other address.
        """
        state = state or StateFolder.find()
        local = str(state.status().get("url") or DEFAULT_URL)
        url = (env.get("RETORT_URL") or local).rstrip("/")
        key = env.get("RETORT_API_KEY") or (state.api_key() if url == local else None)
        return cls(url, key)


class Client:
    """A connection to one service."""

    def __init__(self, service: Service, transport: httpx.BaseTransport | None = None) -> None:
        self._service = service
        headers = {"User-Agent": "retort-cli"}
        if service.key:
            headers["Authorization"] = f"Bearer {service.key}"
        local = httpx.URL(service.url).host in ("127.0.0.1", "::1", "localhost")
        self._http = httpx.Client(
            base_url=service.url,
            headers=headers,
            timeout=httpx.Timeout(10.0, read=WAIT_S + 30.0),
            transport=transport,
            trust_env=not local,  # no proxy between us and our own machine
        )

    def run(self, request: Mapping[str, Any], on_change: Callable[[Job], None] = lambda _: None) -> Job:
        """Submit a job and return it when it has ended.

        Raises:
            ClientError: it was not accepted, or the service went away.
        """
        try:
            answer = self._http.post("/v1/jobs", json=request, headers={"Prefer": f"wait={WAIT_S}"})
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason
        job = self._job(answer)
        on_change(job)
        lost_since: float | None = None
        while job["state"] not in FINAL_STATES:
            try:
                answer = self._http.get(f"/v1/jobs/{job['id']}", params={"wait": WAIT_S})
                answer_is_final = answer.status_code < 500 and answer.status_code != 429
            except httpx.HTTPError as reason:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > PATIENCE_S:
                    raise self._unreachable(reason) from reason
                time.sleep(0.5)
                continue
            if not answer_is_final:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since <= PATIENCE_S:
                    time.sleep(0.5)
                    continue
            lost_since = None
            job = self._job(answer)
            on_change(job)
        return job

    def submit(self, request: Mapping[str, Any]) -> Job:
        """Submit a job; returns at once.

        Raises:
            ClientError: it was not accepted.
        """
        try:
            return self._job(self._http.post("/v1/jobs", json=request))
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason

    def follow(self, job: Job, every_s: float = 0.25) -> Iterator[Job]:
        """The job as it stands, again and again, until it has ended.

        Raises:
            ClientError: the service went away.
        """
        lost_since: float | None = None
        while True:
            yield job
            if job["state"] in FINAL_STATES:
                return
            time.sleep(every_s)
            try:
                job = self._job(self._http.get(f"/v1/jobs/{job['id']}"))
                lost_since = None
            except httpx.HTTPError as reason:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > PATIENCE_S:
                    raise self._unreachable(reason) from reason
            except Refused as refused:
                lost_since = lost_since or time.monotonic()
                if refused.status < 500 or time.monotonic() - lost_since > PATIENCE_S:
                    raise

    def job(self, job_id: str) -> Job:
        """A job as it stands.

        Raises:
            ClientError: there is none, or the service does not answer.
        """
        try:
            return self._job(self._http.get(f"/v1/jobs/{quote(job_id, safe='')}"))
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason

    def attempt(self, job_id: str, number: int) -> dict[str, Any]:
        """One attempt in full, with the calls of its models.

        Raises:
            ClientError: there is none, or the service does not answer.
        """
        try:
            return self._document(self._http.get(f"/v1/jobs/{job_id}/attempts/{number}"), "number", "calls")
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason

    def artifact(self, job: Job, name: str) -> bytes:
        """A file that the job's last attempt left.

        Raises:
            ClientError: there is none of this name, or the service does not answer.
        """
        left = {each["name"]: each["links"]["self"] for each in job.get("artifacts") or ()}
        if name not in left:
            raise ClientError(f"the job left no {name}, only {', '.join(left) or 'nothing'}")
        try:
            answer = self._http.get(left[name])
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason
        if answer.is_success:
            return answer.content
        raise Refused(answer.status_code, f"{name}: {self._service.url} answered {answer.status_code}")

    def models(self) -> dict[str, Any]:
        """The models and presets, as `GET /v1/models` gives them.

        Raises:
            ClientError: the service refused, or does not answer.
        """
        try:
            answer = self._http.get("/v1/models")
        except httpx.HTTPError as reason:
            raise self._unreachable(reason) from reason
        return self._document(answer, "models")

    def _job(self, answer: httpx.Response) -> Job:
        return self._document(answer, "id", "state")

    def _document(self, answer: httpx.Response, *fields: str) -> dict[str, Any]:
        """The answer's object, which must have these fields."""
        try:
            document = answer.json()
        except ValueError:
            document = None
        if answer.is_success and isinstance(document, dict) and set(fields) <= document.keys():
            return document
        raise Refused(answer.status_code, self._explain(answer.status_code, document))

    def _explain(self, status: int, document: Any) -> str:
        if status == 401 and self._service.key is None:
            return f"{self._service.url} wants an API key: set RETORT_API_KEY (`retort env` prints it)"
        if not isinstance(document, dict) or "title" not in document:
            return f"{self._service.url} answered {status}, and not as Retort does; is RETORT_URL right?"
        lines = [f"{document['title']}: {document.get('detail') or status}"]
        for error in document.get("errors") or ():
            allowed = f" (allowed: {_listed(error['allowed'])})" if error.get("allowed") else ""
            lines.append(f"  {error.get('field')}: {error.get('message')}{allowed}")
        return "\n".join(lines)

    def _unreachable(self, reason: httpx.HTTPError) -> Unreachable:
        return Unreachable(
            f"{self._service.url} does not answer ({reason}). Start one with `retort up`, or set RETORT_URL."
        )


def _listed(allowed: Any) -> str:
    return ", ".join(map(str, allowed)) if isinstance(allowed, list) else str(allowed)


def output(job: Job, stream: str) -> bytes:
    """The bytes that the program wrote to `stdout` or `stderr`, as far as they were kept."""
    text = job.get(stream) or ""
    return base64.b64decode(text) if job.get(f"{stream}_encoding") == "base64" else text.encode()
