"""Settings of the process that sends webhooks, read once at its entry point from RETORT_… variables."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.addresses import with_password
from domain.reach import ReachSettings

HOUR_S = 3600.0
DAY_S = 86400.0


class HookSettings(ReachSettings, BaseSettings):
    """What it can be told. Every field is an environment variable with the prefix RETORT_."""

    model_config = SettingsConfigDict(env_prefix="RETORT_", extra="ignore", frozen=True)

    database_password_file: Path | None = Field(
        default=None, description="File with the password for `database_url`, which then has none."
    )
    database_url: str = Field(description="PostgreSQL, as postgresql+psycopg://…")
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level of what is logged."
    )

    webhook_key: SecretStr | None = Field(default=None, description="Opens the secrets; as the API's.")
    webhook_key_file: Path | None = Field(default=None, description="Or a file of keys, one a line.")
    webhook_timeout_s: float = Field(
        default=10, gt=0, description="Seconds for one try, from the look-up of the name to the status."
    )
    webhook_retry_s: float = Field(default=5, gt=0, description="Seconds before the first retry.")
    webhook_retry_most_s: float = Field(
        default=12 * HOUR_S,
        gt=0,
        description="Most seconds between two tries; each pause is four times the last.",
    )
    webhook_give_up_s: float = Field(
        default=3 * DAY_S, gt=0, description="A try that fails so long after the event is the last one."
    )
    webhook_disable_s: float = Field(
        default=5 * DAY_S, gt=0, description="A webhook that has failed for so long is disabled."
    )
    webhook_days: int = Field(default=30, ge=1, description="Days that deliveries are kept.")
    webhook_at_once: int = Field(default=64, ge=1, le=1000, description="Messages under way at the same time.")
    webhook_at_once_each: int = Field(default=8, ge=1, le=100, description="The same, of one webhook.")
    webhook_poll_s: float = Field(default=0.5, gt=0, description="Seconds between two looks at the outbox.")

    fault_fuses: Path | None = Field(default=None, description="For tests of crashes alone.")
    test_mode: bool = Field(default=False, description="For tests alone: allows `fault_fuses`.")

    @model_validator(mode="after")
    def _no_fuses_in_earnest(self) -> Self:
        if self.fault_fuses is not None and not self.test_mode:
            raise ValueError("fault_fuses makes the process kill itself; it is for tests, with test_mode=true")
        return self

    @field_validator("database_url")
    @classmethod
    def _with_password(cls, url: str, info: ValidationInfo) -> str:
        return with_password(url, info.data.get("database_password_file"))
