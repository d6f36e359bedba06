"""Numbers of jobs, of usage and of sandboxes, as answers carry them."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.schemas import Answer


class Histogram(Answer):
    """How often something took how long: `buckets` are pairs of seconds and how many took at most so long."""

    buckets: list[tuple[float, int]]
    count: int
    sum_s: float


class SandboxStats(Answer):
    """Sandboxes of all live workers together.

    `lent`: jobs, by how they got a sandbox. `hit_rate`: the share that did not wait. `cells`: now.
    """

    workers: int
    workers_ready: int
    tiers: dict[str, bool]
    jobs: int
    hit_rate: float | None
    lent: dict[str, int]
    cells: dict[str, int]
    cells_since_start: dict[str, int]
    memory_mb: int
    start_seconds: dict[str, Histogram]
    cold_wait_seconds: Histogram


class Spread(Answer):
    """How long something took, in seconds, over the jobs that had it."""

    avg: float
    p50: float
    p95: float
    p99: float


class JobStats(Answer):
    """What jobs came to; null where there is nothing to tell it from.

    A job succeeded where its verdict is `ok`. `success_rate` is of those that finished or broke; of these,
    `recovery_rate` is of those whose first attempt failed. `start_s` and `run_s` are sums over attempts.
    """

    jobs: int
    unfinished: int
    cancelled: int
    broken: int
    succeeded: int
    failed: int
    success_rate: float | None
    queue_s: Spread | None
    start_s: Spread | None
    run_s: Spread | None
    total_s: Spread | None
    warm_starts: int
    cold_starts: int
    cached_runs: int
    model_calls: int
    cached_answers: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    cost_complete: bool
    cost_per_success_usd: str | None
    first_failed: int
    recovered: int
    recovery_rate: float | None


class StatsRow(JobStats):
    """The same of a part of the jobs: those with this model, language, verdict, or of this hour or day."""

    model: str | None = None
    language: str | None = None
    verdict: str | None = Field(default=None, description="Null: it has none yet, or was cancelled, or broke.")
    time: datetime | None = None


class Latest(Answer):
    """The jobs that ended last, a thousand at most: how many they are, and their average time in seconds."""

    jobs: int
    avg_total_s: float | None


class Stats(Answer):
    """How your jobs did between two moments, and how the sandboxes of the service do now."""

    since: datetime
    until: datetime
    bucket: Literal["hour", "day"]
    by: list[Literal["model", "language", "verdict", "time"]]
    total: JobStats
    rows: list[StatsRow]
    latest: Latest
    estimated_monthly_usd: str = Field(description="The cost, as if it went on so for 30 days.")
    sandbox: SandboxStats


class UsageRow(Answer):
    """What a caller used on a UTC day, also in jobs that are deleted."""

    caller_id: UUID
    caller: str
    day: date
    jobs: int
    runs: int
    wall_s: float
    cpu_s: float
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str


class DailyUsage(Answer):
    """Usage by caller and day, the last day first."""

    since: date
    until: date
    usage: list[UsageRow]
