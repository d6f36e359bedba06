"""`GET /v1/models` and `retort models`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain import worker_statements
from domain.catalogue import load_catalogue
from tests.integration.api.harness import ROOT, Server, Store
from worker.model.gateways import GatewaySettings, load_gateways


def report(store: Store, *, ready: bool = True, **facts: Any) -> None:
    """Say what a worker says."""
    with store.engine.begin() as connection:
        connection.execute(
            worker_statements.REPORT_WORKER,
            {"instance": "w", "ready": ready, "why_not": None if ready else "x", "facts": facts},
        )


def by_name(client: httpx.Client) -> dict[str, Any]:
    """The cards."""
    answer = client.get("/v1/models")
    assert answer.status_code == 200
    return {card["name"]: card for card in answer.json()["models"]}


@pytest.fixture
def facts() -> list[dict[str, Any]]:
    """What a worker with one gateway says of it."""
    settings = GatewaySettings(
        gateway_url="https://gateway.example/v1",
        gateway_key_length=0,
        gateway_models="gpt-4.1,gpt-5-mini,house-model",
    )
    return load_gateways(settings, load_catalogue(), {}).facts()


def test_models_without_a_worker(client: httpx.Client) -> None:
    cards = by_name(client)
    assert not any(card["available"] for card in cards.values())
    sonnet = cards["claude-sonnet-4-20250514"]
    assert "sonnet-4" in sonnet["aliases"]
    assert (sonnet["price"]["input"], sonnet["price"]["output"], sonnet["price"]["currency"]) == (
        "3.00",
        "15.00",
        "USD",
    )
    assert sonnet["context_tokens"] == 200_000
    assert "vision" not in cards["claude-haiku-4-5"]["capabilities"]
    assert [limit["rpm"] for limit in sonnet["limits"]] == [300, 60]
    presets = client.get("/v1/models").json()["presets"]
    assert next(preset["name"] for preset in presets) == "code-generation"
    assert next(preset for preset in presets if preset["name"] == "data-extraction")["top_p"] is None


def test_models_that_a_worker_serves_come_first(
    client: httpx.Client, store: Store, facts: list[dict[str, Any]]
) -> None:
    report(store, gateways=facts)
    cards = by_name(client)
    assert {name for name, card in cards.items() if card["available"]} == {
        "gpt-4.1",
        "gpt-5-mini",
        "house-model",
    }
    assert next(iter(cards)) == "gpt-4.1"
    assert cards["gpt-4.1"]["gateways"] == [{"name": "default", "dialect": "openai", "price": None}]
    assert cards["gpt-5-mini"]["price"]["source"].startswith("genai-prices")
    assert cards["house-model"]["price"] is None
    report(store, ready=False, gateways=facts)
    assert not any(card["available"] for card in by_name(client).values())


def test_what_it_does_not_take(client: httpx.Client) -> None:
    assert client.get("/v1/models?colour=red").status_code == 422


def test_a_wrong_catalogue_stops_the_start(tmp_path: Path, database_url: str, redis_url: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[models]")
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RETORT_DATABASE_URL": database_url,
        "RETORT_REDIS_URL": redis_url,
        "RETORT_CATALOGUE": str(file),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "api"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode
    assert "RETORT_CATALOGUE" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_lists_them(
    server: Server, key: str, store: Store, facts: list[dict[str, Any]], connect: Callable[..., httpx.Client]
) -> None:
    report(store, gateways=facts)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RETORT_URL": server.url,
        "RETORT_API_KEY": key,
        "COLUMNS": "200",
    }
    command = [sys.executable, "-P", "-m", "retort.cli.main", "models"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("gpt-4.1"))
    assert "$2.00" in line
    assert "default" in line
    assert "unknown" in next(line for line in done.stdout.splitlines() if line.startswith("house-model"))
    as_json = subprocess.run(
        [*command, "--json"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert '"gpt-4.1"' in as_json.stdout
