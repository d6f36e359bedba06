"""Settings of the API process: environment variables that start with `RETORT_`, read once."""

from pathlib import Path
from tempfile import gettempdir

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.addresses import with_password
from domain.batches import MOST_JOBS
from domain.reach import ReachSettings
from domain.states import Runtime

MIB = 2**20


class Settings(ReachSettings, BaseSettings):
    """What an operator may choose. Both URLs are required; they may hold passwords, so they never print."""

    model_config = SettingsConfigDict(env_prefix="RETORT_", extra="ignore", frozen=True)

    # Passwords for the two addresses below, which then have none; before them, as they are put into them.
    database_password_file: Path | None = None
    redis_password_file: Path | None = None

    database_url: SecretStr  # postgresql+psycopg://…
    redis_url: SecretStr  # redis://…, rediss://… or unix://…

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: str = "INFO"

    profiles: Path | None = None  # a file in place of domain/data/profiles.toml
    languages: Path | None = None
    runtime: Runtime = Runtime.RUNC  # the tier of a job that asks for none
    tasks: Path | None = None  # in place of domain/data/tasks.toml
    catalogue: Path | None = None  # a file in place of domain/data/catalogue.toml

    state_dir: Path = Field(default_factory=lambda: Path(gettempdir()))
    storage_url: str | None = None  # where files and artifacts are, as for the workers; else in state_dir

    max_file_bytes: int = Field(default=64 * MIB, ge=1)  # of one uploaded file
    max_stored_bytes: int = Field(default=1024 * MIB, ge=1)  # of all files that a caller has uploaded
    max_inline_bytes: int = Field(default=8 * MIB, ge=0)  # of artifacts within an answer
    upload_timeout_s: float = Field(default=600, gt=0)  # for a client to send a file, or a batch
    max_body_bytes: int = Field(default=4 * MIB, ge=1024)
    max_batch_bytes: int = Field(default=32 * MIB, ge=1024)  # of the body of one batch
    max_batch_jobs: int = Field(default=MOST_JOBS, ge=1, le=MOST_JOBS)
    max_code_bytes: int = Field(default=MIB, ge=1)
    body_timeout_s: float = Field(default=30, gt=0)  # for a client to send its body
    max_wait_s: int = Field(default=60, ge=0, le=600)
    max_waiters: int = Field(default=2000, ge=0)  # clients that wait at the same time; more are told 202

    # Of callers that have no quotas of their own; 0: no limit.
    requests_per_s: float = Field(default=1000, ge=0)
    burst: int = Field(default=2000, ge=1)
    max_queued_per_caller: int = Field(default=10_000, ge=0)
    max_queued: int = Field(default=100_000, ge=0)  # of all callers together
    idempotency_hours: int = Field(default=24, ge=1)  # for so long a key is remembered
    refusals_per_s: float = Field(default=20, gt=0)  # keys that are not valid, from one address
    max_streams: int = Field(default=500, ge=0)  # event streams at the same time

    max_webhooks: int = Field(default=20, ge=0)  # of one caller
    webhook_key: SecretStr | None = None  # seals the secrets of webhooks; the sender must be told the same
    webhook_key_file: Path | None = None  # or a file of keys, one a line; the first one seals

    trusted_proxies: str = ""  # networks whose X-Forwarded-For is believed, with commas between
    cors_origins: str = ""  # origins whose pages may call, with commas between; none: no page may

    key_cache_s: float = Field(default=2, ge=0)  # for so long a revoked key may still be accepted
    models_cache_s: float = Field(default=1, ge=0)  # for so long a model may count as served that no longer is
    database_pool_size: int = Field(default=8, ge=1)
    database_timeout_s: float = Field(default=5, gt=0)  # for one statement, connection included

    @field_validator("database_url", "redis_url")
    @classmethod
    def _with_password(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        name = str(info.field_name).replace("_url", "_password_file")
        return SecretStr(with_password(url.get_secret_value(), info.data.get(name)))


def load_settings() -> Settings:
    """The settings that the environment gives.

    Raises:
        SystemExit: a required one is missing or one is wrong; says which.
    """
    try:
        return Settings.model_validate({})
    except ValidationError as error:
        wrong = "; ".join(
            f"RETORT_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)
        )
        raise SystemExit(f"cannot start with these settings: {wrong}") from None
