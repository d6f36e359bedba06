"""What is told of a step while it is done: the ids in its log lines, its spans, its part in the metrics."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from domain import logs
from domain.bell import queue_of
from domain.states import State
from telemetry import traces, words
from telemetry.context import parent_of_job
from telemetry.traces import Value
from worker import meters
from worker.claimed import ClaimedJob

log = logging.getLogger(__name__)


@contextmanager
def step(job: ClaimedJob, claim_s: float) -> Iterator[None]:
    """Around the step of a claimed job. What it raises is logged here, once, with the ids; the lease will end.

    `claim_s`: how long the claim took.
    """
    kind = job.state.value
    parent = parent_of_job(job.id, job.traceparent, traces.ratio())
    attributes: dict[str, Value | None] = {
        words.JOB_ID: str(job.id),
        words.ATTEMPT: job.claims,
        words.STATE: kind,
        words.LANGUAGE: job.language,
        words.PROFILE: job.profile,
        words.RUNTIME: job.runtime.value,
        words.ROUND: None if job.task is None else job.task.round,
        words.QUEUE: queue_of(job.state, job.priority, job.runtime),
    }
    began = time.monotonic()
    with logs.ids(job_id=str(job.id), attempt=job.claims, trace_id=parent.trace):
        try:
            with traces.span(f"retort.{kind}", "consumer", attributes, parent=parent):
                _waited(job, claim_s)
                yield
        except Exception:
            meters.ERRORS.labels(kind).inc()
            log.exception("a step failed; the job is taken up again once its lease has ended")
        finally:
            meters.STEPS.labels(kind).observe(time.monotonic() - began)


def _waited(job: ClaimedJob, claim_s: float) -> None:
    """Tell of the time until now. Only of a job's first step is known when it began to wait."""
    first = job.claims == 1 and (job.task is None or (job.state is State.GENERATING and not job.task.round))
    if first:
        meters.QUEUED.labels(job.priority).observe(job.age_s)
        traces.record("retort.queue", "internal", job.age_s + claim_s, {})
    traces.record("retort.claim", "internal", claim_s, {})
