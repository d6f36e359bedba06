"""Settings of a worker, read once at its entry point from RETORT_… variables."""

import os
import socket
from decimal import Decimal
from pathlib import Path
from tempfile import gettempdir
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.addresses import with_password
from domain.bell import LEASE_S
from domain.states import Runtime


def _default_jobs() -> int:
    return max(4, 2 * (os.cpu_count() or 1))


class WorkerSettings(BaseSettings):
    """What a worker can be told. Every field is an environment variable with the prefix RETORT_."""

    model_config = SettingsConfigDict(env_prefix="RETORT_", extra="ignore")

    # Before the addresses that they belong to.
    database_password_file: Path | None = Field(
        default=None, description="File with the password for `database_url`, which then has none."
    )
    redis_password_file: Path | None = Field(
        default=None, description="File with the password for `redis_url`, which then has none."
    )
    database_url: str = Field(description="PostgreSQL, as postgresql+psycopg://…")
    redis_url: str = Field(description="Redis or Valkey, as redis://… or unix://…")
    instance: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="Name of this worker; labels its containers. One process at a time may have it. Default: "
        "the host's name.",
    )
    runtimes: str = Field(
        default=Runtime.RUNC.value,
        pattern=r"^(runc|runsc)(,(runc|runsc))*$",
        description="Tiers that this worker offers, with commas between; none ever stands in for another.",
    )
    jobs: int = Field(
        default_factory=_default_jobs,
        ge=1,
        le=256,
        description="Jobs that run at the same time here. Default: two per processor, at least four.",
    )
    batch_jobs: int | None = Field(
        default=None,
        ge=1,
        description="Jobs of batches that run at the same time here. Default: one fewer than all, so that "
        "other jobs find a place.",
    )
    serves: str = Field(
        default="sandbox,model",
        pattern="^(sandbox|model|sandbox,model)$",
        description="Steps done here: `sandbox` needs the container engine, `model` a gateway; or both.",
    )
    model_jobs: int = Field(
        default=32,
        ge=1,
        le=512,
        description="Questions to models under way at the same time in a worker that does nothing else.",
    )
    refine: Path | None = Field(default=None, description="File with rules of refinement that replaces ours.")
    caller_budget_usd: Decimal | None = Field(
        default=None, gt=0, description="US dollars that each caller may spend on models in a day (UTC)."
    )
    caller_tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Tokens, in and out, that the models of each caller may have in a minute.",
    )
    warm_least: int = Field(
        default=2,
        ge=0,
        le=256,
        description="Idle cells always kept, of each warm language and tier's first profile.",
    )
    warm_most: int = Field(
        default=8, ge=1, le=256, description="Idle cells per image, profile and tier under load."
    )
    warm_languages: str = Field(
        default="python,javascript,bash,r,rust",
        description="Languages of which idle cells are kept from the start, by commas.",
    )
    sandbox_memory_mb: int = Field(
        default=0,
        ge=0,
        description="Ceiling for the memory of all sandboxes together, in MB; 0: three quarters of the host's.",
    )
    lease_s: float = Field(
        default=LEASE_S,
        ge=1,
        le=600,
        description="Seconds after which the jobs of a worker that is gone are done by others.",
    )
    deaf_s: float = Field(
        default=30,
        ge=1,
        description="A worker that takes no message for so long, while some wait, ends to be started anew.",
    )
    fault_fuses: Path | None = Field(
        default=None, description="For tests of crashes alone: folder of fuses, see worker/faults.py."
    )
    test_mode: bool = Field(default=False, description="For tests alone: allows `fault_fuses`.")
    idempotency_hours: int = Field(
        default=24, ge=1, description="For so long an Idempotency-Key is remembered."
    )
    profiles: Path | None = Field(default=None, description="File with profiles that replaces ours.")
    state_dir: Path = Field(
        default_factory=lambda: Path(gettempdir()),
        description="Folder of the lock that keeps an instance single, and of the storage. Default: the "
        "system's for temporary files.",
    )
    storage_url: str | None = Field(
        default=None,
        description="Where files and artifacts are: file:///folder or s3://bucket/prefix; the API must be told "
        "the same. Default: storage/ in the state folder.",
    )
    jobs_days: int = Field(
        default=0,
        ge=0,
        description="Days that jobs are kept after their end, where no quota says; 0 is for ever.",
    )
    artifacts_days: int = Field(default=30, ge=0, description="Days that artifacts are kept; 0 is for ever.")
    files_days: int = Field(default=30, ge=0, description="Days that uploaded files are kept; 0 is for ever.")
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level of what is logged."
    )

    @model_validator(mode="after")
    def _no_fuses_in_earnest(self) -> Self:
        if self.fault_fuses is not None and not self.test_mode:
            raise ValueError("fault_fuses makes a worker kill itself; it is for tests, with test_mode=true")
        return self

    @property
    def slots(self) -> int:
        """Steps that are done at the same time here."""
        return self.jobs if "sandbox" in self.serves else self.model_jobs

    @property
    def batch_slots(self) -> int:
        """Those of them that batch work may have; all, where there is one."""
        return min(self.slots, self.batch_jobs or max(1, self.slots - 1))

    @property
    def ready_file(self) -> Path:
        """Touched each second while this worker can take work: for whoever watches over containers."""
        return self.state_dir / f"retort-worker-{self.instance}.ready"

    @property
    def tiers(self) -> tuple[Runtime, ...]:
        """`runtimes` as a sequence without repetitions."""
        return tuple(dict.fromkeys(Runtime(name) for name in self.runtimes.split(",")))

    @property
    def warm(self) -> list[str]:
        """The languages of `warm_languages`."""
        return [name.strip() for name in self.warm_languages.split(",") if name.strip()]

    @field_validator("database_url", "redis_url")
    @classmethod
    def _with_password(cls, url: str, info: ValidationInfo) -> str:
        name = str(info.field_name).replace("_url", "_password_file")
        return with_password(url, info.data.get(name))
