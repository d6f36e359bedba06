"""What every process can be told of metrics and traces."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class TelemetrySettings(BaseSettings):
    """Every field is an environment variable with the prefix RETORT_."""

    model_config = SettingsConfigDict(env_prefix="RETORT_", extra="ignore", frozen=True)

    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65519,
        description="Port on which each process serves `GET /metrics` and `GET /healthz`, in threads of their "
        "own: the first free one of 16 from here, 0 takes any. Not set: none. The API has both on its own too.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address on which they do so.")
    traces_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where spans are sent as OTLP over HTTP, as http://127.0.0.1:4318/v1/traces; needs the "
        "extra `otel`. Not set: there are none.",
    )
    traces_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Share of jobs that are traced where the client does not say."
    )


def load_telemetry() -> TelemetrySettings:
    """The settings that the environment gives.

    Raises:
        SystemExit: one is wrong; says which, and not what it is.
    """
    try:
        return TelemetrySettings()
    except ValidationError as error:
        wrong = "; ".join(
            f"RETORT_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        )
        raise SystemExit(f"cannot start with these settings: {wrong}") from None
