"""Tasks over HTTP: what is refused and how, and what an accepted one looks like. Workers are rows here."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from domain.tables.job import jobs
from tests.integration.api.harness import Server, Store

MODELS = ["gpt-4.1", "gemini-2.5-flash"]


@pytest.fixture
def client(server: Server, store: Store, connect: Callable[..., httpx.Client]) -> httpx.Client:
    """A client of a service where some worker can ask models."""
    store.serve_models(*MODELS)
    return connect(server.url)


def task(**more: Any) -> dict[str, Any]:
    return {"task": "print the first ten primes", **more}


#: body -> the field that is named, and a part of what is said to be allowed.
REFUSED: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("an empty task", {"task": " \n"}, "task", None),
    ("a task too large", {"task": "x" * (2**20 + 1)}, "task", "1048576"),
    ("NUL", {"task": "a\x00"}, "task", None),
    ("an unknown model", task(model="gpt-99"), "model", "gemini-2.5-flash"),
    ("a model that nobody serves", task(model="opus-4", fallbacks=[]), "model", "gemini-2.5-flash"),
    ("a model that is a number", task(model=4), "model", None),
    ("an unknown fallback", task(fallbacks=["gpt-99"]), "fallbacks", "gpt-4.1"),
    ("nine fallbacks", task(fallbacks=["gpt-4.1"] * 9), "fallbacks", "8"),
    ("an unknown route", task(route="scenic"), "route", "speed"),
    ("a route for a named model", task(model="gpt-4.1", route="cost"), "route", None),
    ("an accuracy above 1", task(required_accuracy=1.5), "required_accuracy", "from 0 to 1"),
    ("an accuracy that nobody reaches", task(required_accuracy=0.99), "required_accuracy", "at most"),
    ("an accuracy that is text", task(required_accuracy="high"), "required_accuracy", None),
    ("no attempts", task(max_attempts=0), "max_attempts", "from 1 to 10"),
    ("eleven attempts", task(max_attempts=11), "max_attempts", "from 1 to 10"),
    ("half an attempt", task(max_attempts=1.5), "max_attempts", None),
    ("no budget", task(budget_usd=0), "budget_usd", "more than 0"),
    ("a budget in debt", task(budget_usd="-1"), "budget_usd", "more than 0"),
    ("a budget without end", task(budget_usd="Infinity"), "budget_usd", "more than 0"),
    ("a budget that is no number", task(budget_usd="lots"), "budget_usd", "more than 0"),
    ("a budget that is a list", task(budget_usd=[]), "budget_usd", None),
    ("a temperature", task(temperature=2.1), "temperature", None),
    ("no tokens", task(max_tokens=0), "max_tokens", None),
    ("an unknown preset", task(preset="magic"), "preset", None),
    ("a check that is text", task(check="1"), "check", None),
    ("a check of nothing", task(check={}), "check", "tests"),
    ("a check of both", task(check={"tests": "1", "stdout": "1"}), "check", "tests"),
    ("an unknown check", task(check={"magic": "1"}), "check.magic", "tests"),
    ("empty tests", task(check={"tests": " "}), "check.tests", None),
    ("a check too large", task(check={"stdout": "x" * 262_145}), "check", "262144"),
    ("an unknown priority", task(priority="now"), "priority", "batch"),
    ("a cache that is text", task(cache="yes"), "cache", None),
    ("code with a model", {"code": "1", "model": "auto"}, "model", None),
    ("code with a check", {"code": "1", "check": {"stdout": "1"}}, "check", None),
    ("code with a budget", {"code": "1", "budget_usd": 1}, "budget_usd", None),
]


@pytest.mark.parametrize(
    ("body", "field", "allowed"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_refused(
    client: httpx.Client, store: Store, body: dict[str, Any], field: str, allowed: str | None
) -> None:
    answer = client.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:retort:problem:invalid")
    error = answer.json()["errors"][0]
    assert error["field"] == field
    if allowed is not None:
        assert allowed in str(error["allowed"])
    assert store.count_jobs() == 0


def test_what_is_stored_and_answered(client: httpx.Client, store: Store) -> None:
    wanted = task(
        model="gpt-4.1",
        fallbacks=["gemini-2.5-flash"],
        max_attempts=2,
        budget_usd="0.10",
        check={"stdout": "2 3 5"},
        priority="batch",
        cache=True,
        larger_profile=True,
    )
    answer = client.post("/v1/jobs", json=wanted)
    assert answer.status_code == 202
    fresh = answer.json()
    read = client.get(fresh["links"]["self"]).json()
    assert read == fresh
    assert (read["task"], read["code"], read["state"]) == (wanted["task"], None, "queued")
    assert (read["budget_usd"], read["cost_usd"], read["cost_complete"]) == ("0.1", "0", True)
    assert read["check"] == {"stdout": "2 3 5"}
    assert read["policy"]["fallbacks"] == ["gemini-2.5-flash"]
    assert (read["priority"], read["cache"], read["outcome"], read["model"]) == ("batch", True, None, None)
    assert (store.redis.llen("model.batch"), store.redis.llen("sandbox")) == (1, 0)
    with store.engine.begin() as connection:
        row = connection.execute(select(jobs)).one()
    assert (row.next_state, row.round, row.draft) == ("generating", 0, None)


def test_a_request_gives_settings_in_place_of_the_presets(client: httpx.Client, store: Store) -> None:
    def policy_of(**more: Any) -> dict[str, Any]:
        found: dict[str, Any] = client.post("/v1/jobs", json=task(model="gpt-4.1", **more)).json()
        return found

    policy = policy_of(preset="code-generation", temperature=0.7, max_tokens=99)["policy"]
    assert (policy["temperature"], policy["top_p"], policy["max_tokens"]) == (0.7, 0.95, 99)
    assert policy["asked"] == ["temperature", "max_tokens"]
    # What was asked for stays when it is run again with another preset; what came from the preset goes with it.
    job = policy_of(preset="code-generation", max_tokens=99)
    again = client.post(f"{job['links']['self']}/rerun", json={"preset": "data-extraction"}).json()
    plain = policy_of(preset="data-extraction")["policy"]
    assert again["policy"] == {**plain, "max_tokens": 99, "asked": ["max_tokens"]}


def test_a_preset_gives_the_settings(client: httpx.Client, store: Store) -> None:
    policy = client.post("/v1/jobs", json=task(preset="code-generation", model="gpt-4.1")).json()["policy"]
    assert (policy["preset"], policy["model"]) == ("code-generation", "gpt-4.1")
    assert (policy["temperature"], policy["top_p"], policy["max_tokens"]) == (0.2, 0.95, 4096)


def test_the_queue_of_code_is_as_before(client: httpx.Client, store: Store) -> None:
    assert client.post("/v1/jobs", json={"code": "1"}).status_code == 202
    assert client.post("/v1/jobs", json={"code": "1", "priority": "batch"}).status_code == 202
    assert (store.redis.llen("sandbox"), store.redis.llen("sandbox.batch")) == (1, 1)
