"""Languages and versions as requests may name them: what the live workers have counts."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.worker_statements import REPORT_WORKER
from tests.integration.api.harness import Store

IMAGES = {
    "python": {"version": "3.11.2", "packages": {"numpy": "2.4"}, "system": "Debian GNU/Linux 12 (bookworm)"},
    "python-3.12": {"version": "3.13.5", "packages": {}, "system": "Debian GNU/Linux 13 (trixie)"},
    "r-extended": {"version": "4.5.0", "packages": {}, "system": None},
}


@pytest.fixture
def told(client: httpx.Client, store: Store) -> dict[str, Any]:
    """A worker has these images, and the API has heard of it; by name, what it then shows of each language."""
    values = {"instance": "a", "ready": True, "why_not": None, "facts": {"images": IMAGES}}
    with store.engine.begin() as connection:
        connection.execute(REPORT_WORKER, values)
    return {each["name"]: each for each in client.get("/v1/languages").json()["languages"]}


def submit(client: httpx.Client, language: str, **values: Any) -> httpx.Response:
    return client.post("/v1/jobs", json={"code": "1", "language": language, **values})


def test_versions_and_packages(told: dict[str, Any]) -> None:
    assert [each["name"] for each in told["python"]["versions"]] == ["python@3.11", "python@3.13"]
    assert told["python"]["versions"][0] == {
        "name": "python@3.11",
        "version": "3.11.2",
        "image": "python",
        "profiles": ["standard", "extended"],
        "system": "Debian GNU/Linux 12 (bookworm)",
        "packages": {"numpy": "2.4"},
    }
    assert told["r"]["versions"][0]["profiles"] == ["extended"]
    assert told["rust"] == {
        "name": "rust",
        "title": "Rust",
        "compiled": True,
        "profiles": ["standard", "extended"],
        "versions": [],
    }


@pytest.mark.parametrize("language", ["python", "python@3.11", "python@3.13", "python@3"])
def test_what_is_there(client: httpx.Client, told: dict[str, Any], store: Store, language: str) -> None:
    answer = submit(client, language)
    assert (answer.status_code, answer.json()["language"]) == (202, language)
    store.finish(UUID(answer.json()["id"]))


@pytest.mark.parametrize(
    "language", ["python@3.12", "python@3.9", "python@", "python@3.1", "python@tensorflow"]
)
def test_versions_that_are_not(client: httpx.Client, told: dict[str, Any], language: str) -> None:
    answer = submit(client, language)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["field"], error["allowed"]) == ("language", ["python", "python@3.11", "python@3.13"])


def test_a_language_that_no_worker_has(client: httpx.Client, told: dict[str, Any]) -> None:
    answer = submit(client, "rust")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retort:problem:unavailable")
    assert "Rust" in answer.json()["detail"]
    assert client.get("/readyz").json()["missing_languages"] == ["javascript", "bash", "rust"]


def test_a_profile_that_no_image_serves(client: httpx.Client, told: dict[str, Any]) -> None:
    answer = submit(client, "r")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["allowed"] == ["extended"]
    assert submit(client, "r", profile="extended").status_code == 202


def test_limits_of_the_compiler(client: httpx.Client) -> None:
    client.get("/readyz")  # looks who is there: nobody, so that what is declared counts
    answer = submit(client, "rust", limits={"compile_s": 0})
    [error] = answer.json()["errors"]
    assert (error["field"], error["allowed"]) == ("limits.compile_s", "from 1 to 60")
    assert submit(client, "rust", limits={"compile_s": 7}).json()["limits"]["compile_s"] == 7


def test_a_list_of_one_language_has_its_versions(client: httpx.Client, told: dict[str, Any]) -> None:
    wanted = [submit(client, language).json()["id"] for language in ("python", "python@3.13")]
    submit(client, "r", profile="extended")
    every = client.get("/v1/jobs", params={"language": "python"}).json()["jobs"]
    assert {job["id"] for job in every} == set(wanted)
    one = client.get("/v1/jobs", params={"language": "python@3.13"}).json()["jobs"]
    assert [job["id"] for job in one] == wanted[1:]
