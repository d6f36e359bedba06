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

    # Before the addresses that they belong to, as they are put into them.
    database_password_file: Path | None = Field(
        default=None, description="File with the password for `database_url`, which then has none."
    )
    redis_password_file: Path | None = Field(
        default=None, description="File with the password for `redis_url`, which then has none."
    )

    database_url: SecretStr = Field(description="PostgreSQL, as postgresql+psycopg://…")
    redis_url: SecretStr = Field(description="Redis or Valkey, as redis://…, rediss://… or unix://…")

    host: str = Field(default="127.0.0.1", description="Address on which the API listens.")
    port: int = Field(default=8000, ge=0, le=65535, description="Its port; 0 takes any that is free.")
    log_level: str = Field(default="INFO", description="Least level of what is logged.")

    profiles: Path | None = Field(default=None, description="File with profiles that replaces ours.")
    languages: Path | None = Field(default=None, description="File with languages that replaces ours.")
    runtime: Runtime = Field(default=Runtime.RUNC, description="Tier of a job that asks for none.")
    tasks: Path | None = Field(default=None, description="File with rules of tasks that replaces ours.")
    catalogue: Path | None = Field(default=None, description="File with models that replaces ours.")

    state_dir: Path = Field(
        default_factory=lambda: Path(gettempdir()),
        description="Folder of the storage, where no URL says; the system's for temporary files.",
    )
    storage_url: str | None = Field(
        default=None,
        description="Where files and artifacts are: file:///folder or s3://bucket/prefix; as for the workers. "
        "Default: storage/ in the state folder.",
    )

    max_file_bytes: int = Field(default=64 * MIB, ge=1, description="Bytes of one uploaded file.")
    max_stored_bytes: int = Field(
        default=1024 * MIB, ge=1, description="Bytes of all files that a caller has uploaded."
    )
    max_inline_bytes: int = Field(default=8 * MIB, ge=0, description="Bytes of artifacts within an answer.")
    upload_timeout_s: float = Field(
        default=600, gt=0, description="Seconds for a client to send a file, or a batch."
    )
    max_body_bytes: int = Field(default=4 * MIB, ge=1024, description="Bytes of a request's body.")
    max_batch_bytes: int = Field(default=32 * MIB, ge=1024, description="Bytes of the body of one batch.")
    max_batch_jobs: int = Field(default=MOST_JOBS, ge=1, le=MOST_JOBS, description="Jobs in one batch.")
    max_code_bytes: int = Field(default=MIB, ge=1, description="Bytes of a program.")
    body_timeout_s: float = Field(default=30, gt=0, description="Seconds for a client to send its body.")
    max_wait_s: int = Field(default=60, ge=0, le=600, description="Seconds that a request may wait for a job.")
    max_waiters: int = Field(
        default=2000, ge=0, description="Clients that wait at the same time; more are answered 202 at once."
    )

    requests_per_s: float = Field(
        default=1000, ge=0, description="Requests a second of a caller without a quota of its own; 0: no limit."
    )
    burst: int = Field(default=2000, ge=1, description="Requests of it that may come at once.")
    max_queued_per_caller: int = Field(
        default=10_000,
        ge=0,
        description="Jobs of it that may wait, of each priority; beyond them 429. 0: no limit.",
    )
    max_queued: int = Field(
        default=100_000,
        ge=0,
        description="Jobs of all callers that may wait, of each priority; beyond them 503. 0: no limit.",
    )
    idempotency_hours: int = Field(
        default=24, ge=1, description="For so long an Idempotency-Key is remembered."
    )
    refusals_per_s: float = Field(
        default=20, gt=0, description="Keys that are not valid, from one address, that are looked up."
    )
    max_streams: int = Field(default=500, ge=0, description="Event streams at the same time.")

    max_webhooks: int = Field(default=20, ge=0, description="Webhooks of one caller.")
    webhook_key: SecretStr | None = Field(
        default=None, description="Seals the secrets of webhooks; the sender must be told the same."
    )
    webhook_key_file: Path | None = Field(
        default=None, description="Or a file of keys, one a line; the first one seals."
    )

    trusted_proxies: str = Field(
        default="", description="Networks whose X-Forwarded-For is believed, with commas between."
    )
    cors_origins: str = Field(
        default="", description="Origins whose pages may call, with commas between; none: no page may."
    )

    key_cache_s: float = Field(
        default=2, ge=0, description="Seconds for which a revoked key may still be accepted."
    )
    models_cache_s: float = Field(
        default=1, ge=0, description="Seconds for which a model may count as served that no longer is."
    )
    database_pool_size: int = Field(
        default=8, ge=1, description="Connections for what every job needs; there are four more for all else."
    )
    database_timeout_s: float = Field(
        default=5, gt=0, description="Seconds for one statement, connection included."
    )
    ready_stall_s: float = Field(
        default=30,
        gt=0,
        description="Seconds that a program may wait while idle workers take none; then `/readyz` says 503.",
    )

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
