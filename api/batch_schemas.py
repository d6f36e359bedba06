"""Batches, as requests and answers carry them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.job_schemas import Job
from api.request_schemas import JobRequest
from api.schemas import Answer, Strict
from domain.batches import MOST_JOBS
from domain.states import Verdict


class BatchRequest(Strict):
    """Jobs to be done when nothing more urgent is; each as for `POST /v1/jobs`, its priority `batch`."""

    jobs: list[JobRequest] = Field(min_length=1, max_length=MOST_JOBS)


class BatchCounts(Answer):
    """How many jobs of a batch are in each state; `deleted` are those that are there no more."""

    queued: int
    generating: int
    running: int
    finished: int
    cancelled: int
    broken: int
    deleted: int


class BatchLinks(Answer):
    """Paths of related things."""

    self: str
    results: str
    jobs: str


class BatchSummary(Answer):
    """A batch as lists show it."""

    id: UUID
    name: str | None
    total: int
    created_at: datetime
    cancelled_at: datetime | None
    links: BatchLinks


class Batch(BatchSummary):
    """A batch and how far it is. `ended`: all its jobs have. `verdicts` counts those of finished jobs."""

    state: Literal["running", "ended"]
    counts: BatchCounts
    verdicts: dict[Verdict, int]
    cost_usd: str = Field(description="Of all models that were asked so far, as far as prices are known.")
    cost_complete: bool
    finished_at: datetime | None = Field(description="When its last job ended.")


class BatchList(Answer):
    """Batches, newest first."""

    batches: list[BatchSummary]
    next_cursor: str | None


class BatchResult(Job):
    """A job of a batch that has ended; `index` is its place in the batch, from 0."""

    index: int
