"""The record of one job for whoever has to answer for it: everything that is stored, in one document.

The document is canonical JSON (keys in order, no spaces) and names its own SHA-256, so that two exports of a
job that has ended are the same bytes, and a changed one shows.
"""

import hashlib
import json
from typing import Any, Protocol

#: Version of the document's shape.
SCHEMA = 1


class Reads(Protocol):
    """What is asked of a client."""

    def job(self, job_id: str) -> dict[str, Any]:
        """A job."""

    def attempt(self, job_id: str, number: int) -> dict[str, Any]:
        """One of its attempts, in full."""


class NotEnded(Exception):
    """The job goes on; its record would be another one tomorrow."""


def record(client: Reads, job_id: str, final: frozenset[str]) -> dict[str, Any]:
    """The job, and every attempt in full with each call of a model.

    Raises:
        NotEnded: the job is not in one of the states that are `final`.
    """
    job = client.job(job_id)
    if job["state"] not in final:
        raise NotEnded(f"the job is {job['state']}; its record is complete once it has ended")
    attempts = [client.attempt(job["id"], each["number"]) for each in job["attempts"]]
    return {"schema": SCHEMA, "job": job, "attempts": attempts}


def sealed(document: dict[str, Any]) -> str:
    """The document as text, with its digest."""
    return canonical({**document, "sha256": digest(document)})


def intact(text: str) -> bool:
    """Whether a sealed document is as it was."""
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return isinstance(document, dict) and document.pop("sha256", None) == digest(document)


def digest(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()


def canonical(document: dict[str, Any]) -> str:
    """JSON in one form."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
