"""Who may do what, on every route and method that the OpenAPI document tells of, and on those it does not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import text

from api import keys
from api.auth import SCOPE_FIELD, Guarded
from domain.quotas import Scope
from tests.integration.api.harness import Contract, Server, Store

OPEN_PATHS = {"/healthz", "/readyz"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
UNDECLARED = ("/v1", "/v1/", "/v1/nothing", "/%761/jobs", "/v1/../v1/jobs", "/v1/openapi.json", "/v1/docs")

Connect = Callable[..., httpx.Client]


@dataclass(frozen=True)
class Operation:
    """One declared method of one path."""

    method: str
    path: str
    scope: str | None

    def filled(self, **ids: str) -> str:
        """Its path, with ids that exist or that do not."""
        found = self.path
        ids_of = ("job_id", "batch_id", "caller_id", "key_id", "file_id", "webhook_id", "delivery_id")
        for name in (*ids_of, "number", "name"):
            found = found.replace(f"{{{name}}}", ids.get(name, "1" if name == "number" else str(uuid4())))
        assert "{" not in found, f"{self.path} has a parameter that this test does not fill"
        return found


@pytest.fixture
def operations(contract: Contract) -> list[Operation]:
    """Everything that the document tells of."""
    return [
        Operation(method.upper(), path, said.get(SCOPE_FIELD))
        for path, methods in contract.paths.items()
        for method, said in methods.items()
    ]


@pytest.fixture(scope="module")
def url(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API that does not mind thousands of keys that are not valid."""
    log = tmp_path_factory.mktemp("matrix") / "log"
    served = Server(log, database_url, redis_url, key_cache_s="0", refusals_per_s="1000000")
    yield served.url
    served.stop()


def made(store: Store, caller: str, *scopes: Scope) -> str:
    """A key with these scopes."""
    with store.engine.begin() as connection:
        key = keys.create(connection, caller, scopes=scopes)
    assert key is not None
    return key


def ended(store: Store, column: str) -> str:
    """A key that was good, and no longer is."""
    key = made(store, f"former {column}", *Scope)
    with store.engine.begin() as connection:
        connection.execute(
            text(
                f"UPDATE api_keys SET {column} = now() FROM callers "  # noqa: S608 (a column of ours)
                "WHERE callers.id = caller_id AND callers.name = :name",
            ),
            {"name": f"former {column}"},
        )
    return key


def test_every_operation_below_v1_says_which_scope_it_needs(operations: list[Operation]) -> None:
    guarded = [operation for operation in operations if operation.path not in OPEN_PATHS]
    assert all(operation.path.startswith("/v1/") for operation in guarded)
    assert all(operation.scope in set(Scope) for operation in guarded)
    assert {operation.path for operation in operations} - {o.path for o in guarded} == OPEN_PATHS


@pytest.mark.parametrize("who", ["nobody", "an unknown key", "a revoked key", "an expired key"])
def test_nobody_without_a_valid_key(url: str, operations: list[Operation], store: Store, who: str) -> None:
    key = {
        "nobody": None,
        "an unknown key": "rt_" + "x" * 43,
        "a revoked key": ended(store, "revoked_at"),
        "an expired key": ended(store, "expires_at"),
    }[who]
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    paths = {operation.filled() for operation in operations if operation.path not in OPEN_PATHS}
    with httpx.Client(base_url=url, headers=headers) as client:
        for path in [*sorted(paths), *UNDECLARED]:
            for method in METHODS:
                answer = client.request(method, path)
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("has", list(Scope))
def test_a_key_without_the_scope(url: str, operations: list[Operation], store: Store, has: Scope) -> None:
    """The scope is looked at before the body, the query, or whether there is such a thing."""
    key = made(store, "alice", has)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
        for operation in operations:
            answer = client.request(operation.method, operation.filled(), params={"nonsense": "1"})
            if operation.path in OPEN_PATHS:
                assert answer.status_code in {200, 503}
            elif operation.scope == has:
                assert answer.status_code in {404, 415, 422}, operation
            else:
                assert (answer.status_code, answer.json()["type"]) == (
                    403,
                    "urn:retort:problem:forbidden",
                ), operation
                assert operation.scope is not None
                assert operation.scope in answer.json()["detail"]


def test_another_callers_job_is_no_job(
    url: str, operations: list[Operation], store: Store, connect: Connect
) -> None:
    """Whatever is asked of it: the answer is to the byte that for a job which does not exist."""
    alice, mallory = connect(url, made(store, "alice", *Scope)), connect(url, made(store, "mallory", *Scope))
    job = alice.post("/v1/jobs", json={"code": "1"}).json()
    before = alice.get(job["links"]["self"]).json()
    asked = [operation for operation in operations if "{job_id}" in operation.path]
    assert {operation.method for operation in asked} >= {"GET", "POST", "DELETE"}
    for operation in asked:
        body: dict[str, Any] = {} if operation.method != "POST" else {"json": {}}
        theirs = mallory.request(operation.method, operation.filled(job_id=job["id"]), **body)
        unknown = mallory.request(operation.method, operation.filled(), **body)
        assert theirs.status_code == unknown.status_code == 404, operation
        assert {**theirs.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
        assert _names(theirs) == _names(unknown)
    assert alice.get(job["links"]["self"]).json() == before


def _names(answer: httpx.Response) -> list[str]:
    return sorted(name for name in answer.headers if not name.startswith("ratelimit"))


def test_a_route_that_says_no_scope_is_not_served() -> None:
    with pytest.raises(TypeError, match="which scope"):
        APIRouter(route_class=Guarded).add_api_route("/v1/secrets", lambda: None)
