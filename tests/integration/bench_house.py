"""The service with two gateways, as `retort bench` finds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select
from typer.testing import CliRunner, Result

from domain.tables.attempt import model_calls
from domain.tables.job import jobs
from retort.cli.main import app
from retort.client import Config
from tests.harness import Jobs

FAST, SLOW = "gpt-4.1", "claude-sonnet-4-20250514"


@dataclass(frozen=True)
class House:
    """The service with two gateways."""

    service: Config
    table: Jobs

    @property
    def environment(self) -> dict[str, str]:
        """What tells a client of it."""
        return {"RETORT_URL": self.service.url, "RETORT_API_KEY": str(self.service.api_key)}

    def bench(self, *arguments: str) -> Result:
        """`retort bench`."""
        return CliRunner().invoke(app, ["bench", *arguments], env=self.environment)

    def calls(self, model: str) -> list[Row[Any]]:
        """Every call that was made of a model."""
        with self.table.engine.connect() as connection:
            return list(connection.execute(select(model_calls).where(model_calls.c.model == model)))

    def submitted(self) -> int:
        """How many jobs there are."""
        with self.table.engine.connect() as connection:
            return len(connection.execute(select(jobs.c.id)).all())


def gateways(folder: Path, fast: str, slow: str) -> str:
    """The file that tells a worker of both gateways."""
    path = folder / "gateways.toml"
    path.write_text(
        f'[gateways.fast]\nurl = "{fast}"\ndialect = "openai"\nkey_length = 0\nmodels = ["{FAST}"]\n'
        f'[gateways.slow]\nurl = "{slow}"\ndialect = "anthropic"\nkey_length = 0\nmodels = ["{SLOW}"]\n'
    )
    return str(path)
