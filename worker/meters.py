"""What this worker counts for Prometheus. docs/metrics.md has all names; a test holds the two together.

Counters live in the process and begin at zero with it. What can be looked at is looked at when it is read:
`watched` has cells, leases, connections and doors.
"""

from prometheus_client import Counter, Histogram

from domain.states import State
from telemetry.scrape import new_registry
from worker.model.want import CallRecord

REGISTRY = new_registry()

#: Seconds: a warm program ends after milliseconds, a question to a model after a minute.
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
NONE = "none"


def _counter(name: str, says: str, *labels: str) -> Counter:
    return Counter(name, says, labels, registry=REGISTRY)


def _seconds(name: str, says: str, *labels: str) -> Histogram:
    return Histogram(name, says, labels, buckets=_LONG, registry=REGISTRY)


ENDED = _counter("retort_jobs_ended", "Jobs that ended here.", "state", "verdict", "language")
STEPS = _seconds("retort_step_seconds", "Time of a step, from its claim to its end.", "step")
QUEUED = _seconds("retort_queue_wait_seconds", "Time from a job's submission to its first claim.", "priority")
RAN = _seconds("retort_run_seconds", "Wall time of programs.", "language")
ERRORS = _counter("retort_step_errors", "Steps that failed by a defect or an outage of ours.", "step")
EXPIRED = _counter("retort_leases_expired", "Jobs taken over, as their worker had let its lease run out.")
LOST = _counter("retort_leases_lost", "Leases of this worker that it lost while it held the job.")
RINGS = _counter("retort_sweeper_rings", "Jobs that the sweeper rang for again.", "queue")
GIVEN_UP = _counter("retort_sweeper_given_up", "Jobs that the sweeper ended, as too many workers were lost.")
LENT = _counter(
    "retort_pool_lent", "Jobs that got a cell: one that waited, one they waited for, one of their caller's.",
    "image", "profile", "runtime", "start",
)  # fmt: skip
CRASHES = _counter("retort_sandbox_failures", "Sandboxes that failed while a program ran.", "runtime")
CALLS = _counter(
    "retort_model_calls", "Questions to models, by what came of them.", "gateway", "model", "outcome"
)
CALL_SECONDS = _seconds("retort_model_call_seconds", "Time of a question that was asked.", "gateway", "model")
CALL_WAITS = _seconds("retort_model_wait_seconds", "Time that it waited for capacity.", "gateway", "model")
RETRIES = _counter("retort_model_retries", "Questions that repeat one that failed.", "gateway", "model")
TOKENS = _counter("retort_model_tokens", "Tokens, as gateways count them.", "gateway", "model", "kind")
COST = _counter("retort_model_cost_usd", "US dollars, as far as prices are known.", "gateway", "model")


def ended(state: State, verdict: str | None, language: str) -> None:
    """Count a job that ended."""
    ENDED.labels(state.value, verdict or NONE, language).inc()


def lent(image: str, profile: str, runtime: str, start: str) -> None:
    """Count a job that got a cell; `image` without its hash."""
    LENT.labels(image, profile, runtime, start).inc()


def called(record: CallRecord) -> None:
    """Count a question to a model."""
    which = (record.gateway, record.model)
    CALLS.labels(*which, record.failure.value if record.failure else record.status.value).inc()
    if record.status.value in ("ok", "failed"):
        CALL_SECONDS.labels(*which).observe(record.latency_s)
        CALL_WAITS.labels(*which).observe(record.waited_s)
    if record.retry:
        RETRIES.labels(*which).inc()
    usage = record.usage
    if usage is not None and record.status.value in ("ok", "failed"):
        for kind in ("input", "output", "cache_read", "cache_write"):
            if count := getattr(usage, f"{kind}_tokens"):
                TOKENS.labels(*which, kind).inc(count)
    if record.cost_usd:
        COST.labels(*which).inc(float(record.cost_usd))
