"""Numbers of the model front end, read once from RETORT_MODEL_… variables.

A shorter window and shorter times make everything faster by the same factor; tests use that.
"""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.model.types import Failure


class ModelSettings(BaseSettings):
    """What the way to a model can be told. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="RETORT_MODEL_", extra="ignore", frozen=True)

    call_timeout_s: float = Field(default=180.0, gt=0, description="Longest a single call may take.")

    retries: int = Field(default=5, ge=0, le=20, description="Tries after the first, per model.")
    retry_base_s: float = Field(default=1.0, ge=0, description="Wait before the first retry.")
    retry_factor: float = Field(default=2.0, ge=1, description="Each wait is so many times the one before.")
    retry_most_s: float = Field(default=30.0, ge=0, description="Longest wait that we choose ourselves.")
    retry_jitter_s: float = Field(default=1.0, ge=0, description="At most so much is added by chance.")
    retry_after_most_s: float = Field(
        default=120.0,
        ge=0,
        description="A gateway that asks for a longer wait is left for the next model.",
    )

    breaker_threshold: int = Field(default=5, ge=1, description="Failures in a row that open the breaker.")
    breaker_timeout_s: float = Field(default=60.0, gt=0, description="Time from opening to the probe.")
    lease_s: float = Field(
        default=15.0,
        gt=0,
        description="What a dead process leaves behind (a probe, a call under way, a flight) counts so long.",
    )

    window_s: float = Field(default=60.0, gt=0, description="The minute in requests and tokens a minute.")
    transit_s: float = Field(
        default=2.0,
        ge=0,
        description="A request reaches the gateway within this time; it counts for a window from then.",
    )
    adaptive_initial: float = Field(default=10.0, gt=0, description="Requests per adaptive window at first.")
    adaptive_least: float = Field(default=1.0, ge=1, description="Least of these.")
    adaptive_most: float = Field(default=15.0, ge=1, description="Most of these.")
    adaptive_step: float = Field(default=0.5, ge=0, description="Added by each success.")
    adaptive_cut: float = Field(default=0.5, gt=0, le=1, description="A 429 multiplies the rate by this.")
    adaptive_window_s: float = Field(default=1.0, gt=0, description="The adaptive window.")

    caller_requests: int | None = Field(default=10, ge=1, description="Calls of one caller per window.")
    caller_burst: int = Field(default=20, ge=1, description="Calls of one caller that may come at once.")
    caller_window_s: float = Field(default=1.0, gt=0, description="The callers' window.")
    caller_queue_after_s: float = Field(
        default=5.0,
        ge=0,
        description="A job whose caller must wait longer for limits of its own waits in the queue.",
    )

    named_patience_s: float = Field(
        default=10.0,
        ge=0,
        description="A model asked for by name is waited for so long before a fallback is taken.",
    )
    queue_after_s: float = Field(
        default=120.0,
        ge=0,
        description="After so long without a model that can be asked, the batch queue gets the job.",
    )
    batch_queue_after_s: float = Field(
        default=5.0,
        ge=0,
        description="The same for batch work, which must not hold what others wait for.",
    )
    poll_s: float = Field(default=0.1, gt=0, description="Between looks where nobody can say how long.")
    flight_poll_s: float = Field(default=0.05, gt=0, description="Between looks at another's identical call.")
    flight_keep_s: float = Field(default=10.0, gt=0, description="An answer in flight can be shared so long.")
    budget_lease_s: float = Field(default=60.0, gt=0, description="Reserved money of a dead process is freed.")
    allow_unknown_price: bool = Field(
        default=False,
        description="Whether models without a known price may be used where a budget is set.",
    )
    redis_timeout_s: float = Field(default=5.0, gt=0, description="For an answer of the broker.")

    breaker_kinds: frozenset[Failure] = Field(
        default=frozenset(
            {Failure.OVERLOADED, Failure.SERVER, Failure.TIMEOUT, Failure.CONNECTION, Failure.BAD_RESPONSE}
        ),
        description="Kinds of failure that say the gateway is unwell, as a JSON array. A 429 does not: it "
        "answers, and says when.",
    )
