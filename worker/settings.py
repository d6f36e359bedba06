"""Settings of a worker, read once at its entry point from RETORT_… variables."""

import os
import socket
from decimal import Decimal
from pathlib import Path
from tempfile import gettempdir

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.addresses import with_password


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
        description="Name of this worker; labels its containers. One process at a time may have it.",
    )
    runtime: str = Field(default="runc", description="Container runtime; never falls back to another.")
    jobs: int = Field(
        default_factory=_default_jobs,
        ge=1,
        le=256,
        description="Jobs that run at the same time here. Default: two per processor, at least four.",
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
    warm_least: int = Field(default=2, ge=0, le=256, description="Idle cells kept per image and profile.")
    warm_most: int = Field(default=8, ge=1, le=256, description="Idle cells per image and profile under load.")
    profiles: Path | None = Field(default=None, description="File with profiles that replaces ours.")
    state_dir: Path = Field(
        default_factory=lambda: Path(gettempdir()),
        description="Folder of the lock that keeps an instance single.",
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @property
    def ready_file(self) -> Path:
        """Touched each second while this worker can take work: for whoever watches over containers."""
        return self.state_dir / f"retort-worker-{self.instance}.ready"

    @field_validator("database_url", "redis_url")
    @classmethod
    def _with_password(cls, url: str, info: ValidationInfo) -> str:
        name = str(info.field_name).replace("_url", "_password_file")
        return with_password(url, info.data.get(name))
