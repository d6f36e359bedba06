"""Callers and keys by HTTP: made, listed, rotated, revoked; and what a caller's quotas do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api import keys
from domain.quotas import Scope
from tests.harness import eventually
from tests.integration.api.harness import Server, Store
from tests.integration.api.test_api_auth import run_keys

Connect = Callable[..., httpx.Client]
CODE = {"code": "print(1)"}


@pytest.fixture
def admin(server: Server, connect: Connect, store: Store) -> httpx.Client:
    """A client that may do everything."""
    with store.engine.begin() as connection:
        return connect(server.url, keys.create(connection, "root", scopes=list(Scope)))


def caller(admin: httpx.Client, name: str = "team", **quotas: Any) -> dict[str, Any]:
    answer = admin.post("/v1/callers", json={"name": name, "quotas": quotas})
    assert answer.status_code == 201
    document: dict[str, Any] = answer.json()
    return document


def key_of(admin: httpx.Client, caller_id: str, **fields: Any) -> dict[str, Any]:
    answer = admin.post("/v1/keys", json={"caller_id": caller_id, **fields})
    assert answer.status_code == 201
    document: dict[str, Any] = answer.json()
    return document


def test_the_life_of_a_key(admin: httpx.Client, connect: Connect, store: Store) -> None:
    team = caller(admin)
    made = key_of(admin, team["id"])
    assert (made["scopes"], made["state"], made["expires_at"]) == (["read", "submit"], "valid", None)
    theirs = connect(str(admin.base_url), made["key"])
    assert theirs.post("/v1/jobs", json=CODE).status_code == 202
    shown = admin.get(made["links"]["self"])
    assert shown.json() == {**made, "key": None}
    assert made["key"] not in admin.get("/v1/keys").text
    # Rotated: both are good for the overlap, then one.
    turned = admin.post(f"{made['links']['self']}/rotate", json={"overlap_s": 3600}).json()
    assert turned["scopes"] == made["scopes"]
    assert theirs.get("/v1/jobs").status_code == 200
    assert len(connect(str(admin.base_url), turned["key"]).get("/v1/jobs").json()["jobs"]) == 1
    again = admin.post(f"{turned['links']['self']}/rotate").json()
    assert connect(str(admin.base_url), turned["key"]).get("/v1/jobs").status_code == 401
    assert admin.get(turned["links"]["self"]).json()["state"] == "expired"
    assert admin.post(f"{turned['links']['self']}/rotate").status_code == 404
    # Revoked, twice.
    for _ in range(2):
        assert admin.delete(again["links"]["self"]).json()["state"] == "revoked"
    assert connect(str(admin.base_url), again["key"]).get("/v1/jobs").status_code == 401
    listed = admin.get("/v1/keys", params={"caller_id": team["id"]}).json()["keys"]
    assert [each["state"] for each in listed] == ["revoked", "expired", "valid"]


def test_a_rotated_key_lives_as_long_as_the_old_was_made_for(admin: httpx.Client) -> None:
    made = key_of(admin, caller(admin)["id"], expires_in_s=1000, scopes=["read", "read"])
    assert made["scopes"] == ["read"]
    turned = admin.post(f"{made['links']['self']}/rotate", json={"overlap_s": 10**8}).json()
    assert turned["expires_at"] > made["expires_at"]
    # The overlap makes no key live longer than it was to.
    assert admin.get(made["links"]["self"]).json()["expires_at"] == made["expires_at"]


def test_an_expired_key_is_refused_also_where_it_is_remembered(
    start: Callable[..., Server], admin: httpx.Client, connect: Connect
) -> None:
    remembering = start(key_cache_s="3600")
    made = key_of(admin, caller(admin)["id"], expires_in_s=1)
    theirs = connect(remembering.url, made["key"])
    eventually(lambda: theirs.get("/v1/jobs").status_code == 401, "it expires")


def test_the_use_of_a_key_is_noted(admin: httpx.Client, connect: Connect) -> None:
    made = key_of(admin, caller(admin)["id"])
    connect(str(admin.base_url), made["key"]).get("/v1/jobs")
    where = made["links"]["self"]
    eventually(lambda: admin.get(where).json()["last_used_at"] is not None, "its use is noted")
    noted = admin.get(where).json()["last_used_at"]
    connect(str(admin.base_url), made["key"]).get("/v1/jobs")
    assert admin.get(where).json()["last_used_at"] == noted


def test_pages(admin: httpx.Client) -> None:
    ids = [caller(admin, f"c{n}")["id"] for n in range(3)]
    first = admin.get("/v1/callers", params={"limit": 2}).json()
    assert [each["id"] for each in first["callers"]] == [ids[2], ids[1]]
    rest = admin.get("/v1/callers", params={"limit": 9, "cursor": first["next_cursor"]}).json()
    assert [each["name"] for each in rest["callers"]] == ["c0", "root", "alice"]
    assert rest["next_cursor"] is None


def test_a_name_is_taken_once(admin: httpx.Client) -> None:
    assert caller(admin)["quotas"] == {
        **dict.fromkeys(("requests_per_s", "burst", "running", "queued", "execution_s_per_day")),
        **dict.fromkeys(("model_usd_per_day", "model_tokens_per_minute", "retention_days")),
        "ceilings": {},
        "allowed": {},
    }
    taken = admin.post("/v1/callers", json={"name": "team"})
    assert (taken.status_code, taken.json()["type"]) == (409, "urn:retort:problem:conflict")


@pytest.mark.parametrize("path", ["/v1/callers", "/v1/keys"])
def test_idempotency_of_callers_and_keys(admin: httpx.Client, path: str) -> None:
    body = {"name": "team"} if path == "/v1/callers" else {"caller_id": caller(admin, "other")["id"]}
    first = admin.post(path, json=body, headers={"Idempotency-Key": "k"})
    second = admin.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == {**first.json(), **({"key": None} if path == "/v1/keys" else {})}
    other = admin.post(path, json={**body, "name": "x"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/callers", {}, "name"),
        ("/v1/callers", {"name": ""}, "name"),
        ("/v1/callers", {"name": "a\x00b"}, "name"),
        ("/v1/callers", {"name": "a", "id": "1"}, "id"),
        ("/v1/callers", {"name": "a", "quotas": {"queued": 0}}, "quotas.queued"),
        ("/v1/callers", {"name": "a", "quotas": {"requests_per_s": -1}}, "quotas.requests_per_s"),
        ("/v1/callers", {"name": "a", "quotas": {"ceilings": {"sleep": 1}}}, "quotas.ceilings"),
        ("/v1/callers", {"name": "a", "quotas": {"allowed": {"code": ["x"]}}}, "quotas.allowed"),
        ("/v1/callers", {"name": "a", "quotas": {"allowed": {"profile": ["x"]}}}, "quotas.allowed.profile"),
        ("/v1/keys", {"caller_id": str(uuid4()), "scopes": []}, "scopes"),
        ("/v1/keys", {"caller_id": str(uuid4()), "scopes": ["root"]}, "scopes.0"),
        ("/v1/keys", {"caller_id": str(uuid4()), "expires_in_s": 10**12}, "expires_in_s"),
    ],
)
def test_bad_bodies(admin: httpx.Client, path: str, body: dict[str, Any], field: str) -> None:
    answer = admin.post(path, json=body)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("path", ["/v1/callers/x", f"/v1/callers/{UUID(int=1)}", "/v1/keys/'"])
def test_what_is_not_there(admin: httpx.Client, path: str) -> None:
    assert admin.get(path).status_code == 404
    assert admin.post("/v1/keys", json={"caller_id": "x"}).status_code == 404


def test_the_command_line_rotates_and_limits(
    server: Server, connect: Connect, store: Store, database_url: str
) -> None:
    old = run_keys(database_url, "create", "dave", "--scope", "read", "--expires", "30d").stdout.strip()
    client = connect(server.url, old)
    assert client.post("/v1/jobs", json=CODE).status_code == 403
    (line,) = (line for line in run_keys(database_url, "list").stdout.splitlines() if "dave" in line)
    assert ("read" in line.split(), "until" in line) == (True, True)
    new = run_keys(database_url, "rotate", line.split()[0]).stdout.strip()
    assert connect(server.url, new).get("/v1/jobs").status_code == 200
    assert client.get("/v1/jobs").status_code == 401
    assert run_keys(database_url, "rotate", line.split()[0]).returncode == 1
    assert run_keys(database_url, "create", "x", "--expires", "soon").returncode == 2


# --- quotas -------------------------------------------------------------------------------------------


def limited(admin: httpx.Client, connect: Connect, **quotas: Any) -> httpx.Client:
    """A client whose caller has these quotas."""
    made = key_of(admin, caller(admin, f"limited {uuid4()}", **quotas)["id"])
    return connect(str(admin.base_url), made["key"])


def test_requests_per_second(admin: httpx.Client, connect: Connect, store: Store) -> None:
    client = limited(admin, connect, requests_per_s=0.001, burst=5)
    answers = [client.get("/v1/jobs") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == list("4321000")
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"5"}
    refused = answers[-1]
    assert refused.json()["type"] == "urn:retort:problem:rate-limited"
    assert 900 < int(refused.headers["retry-after"]) <= 1000
    # Nobody else's, and no address: what a header says of that is not believed.
    assert client.get("/v1/jobs", headers={"X-Forwarded-For": "8.8.8.8"}).status_code == 429
    assert admin.get("/v1/callers").status_code == 200


def test_a_bucket_is_shared_by_processes(
    admin: httpx.Client, start: Callable[..., Server], connect: Connect
) -> None:
    made = key_of(admin, caller(admin, requests_per_s=0.001, burst=10)["id"])
    urls = [str(admin.base_url), start().url, start().url]
    with ThreadPoolExecutor(9) as pool:
        clients = [connect(url, made["key"]) for url in urls for _ in range(3)]
        statuses = list(
            pool.map(lambda client: [client.get("/v1/jobs").status_code for _ in range(4)], clients)
        )
    assert sum(each.count(200) for each in statuses) == 10


def test_fast_callers_take_several_tokens_at_once_and_give_back(
    admin: httpx.Client, connect: Connect, store: Store
) -> None:
    client = limited(admin, connect, requests_per_s=400, burst=400)
    for _ in range(30):
        answer = client.get("/v1/jobs")
        assert answer.status_code == 200
        # Tokens at hand count as there; what was not needed comes back.
        assert int(answer.headers["ratelimit-remaining"]) >= 400 - 30


def test_jobs_that_wait(admin: httpx.Client, connect: Connect, store: Store) -> None:
    client = limited(admin, connect, queued=5)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/jobs", json=CODE), range(12)))
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 7
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["type"] == "urn:retort:problem:quota-exceeded"
    assert refused.json()["errors"][0]["allowed"] == "at most 5"
    assert refused.headers["retry-after"]
    assert store.count_jobs() == 5
    # One ends: one more may wait, at once.
    first = next(answer.json() for answer in answers if answer.status_code == 202)
    store.finish(UUID(first["id"]))
    assert [client.post("/v1/jobs", json=CODE).status_code for _ in range(2)] == [202, 429]
    assert admin.post("/v1/jobs", json=CODE).status_code == 202


def test_all_jobs_that_wait(start: Callable[..., Server], connect: Connect, store: Store) -> None:
    client = connect(start(max_queued="3").url)
    answers = [client.post("/v1/jobs", json=CODE) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202] * 3 + [503]
    assert (answers[3].json()["type"], answers[3].headers["retry-after"]) == (
        "urn:retort:problem:overloaded",
        "5",
    )
    assert store.count_jobs() == 3


def test_execution_seconds(admin: httpx.Client, connect: Connect, store: Store) -> None:
    client = limited(admin, connect, execution_s_per_day=0.5)
    first = client.post("/v1/jobs", json=CODE)
    assert first.status_code == 202
    store.finish(UUID(first.json()["id"]), wall_s=0.6)

    def refused() -> bool:
        return client.post("/v1/jobs", json=CODE).status_code == 429

    eventually(refused, "the seconds are counted")
    answer = client.post("/v1/jobs", json=CODE)
    assert answer.json()["type"] == "urn:retort:problem:quota-exceeded"
    assert 0 < int(answer.headers["retry-after"]) <= 86400


def test_ceilings(admin: httpx.Client, connect: Connect) -> None:
    client = limited(
        admin, connect, ceilings={"timeout_s": 10, "memory_mb": 4096}, allowed={"profile": ["standard"]}
    )
    # What a request leaves open is lowered, what it says is refused.
    assert client.post("/v1/jobs", json=CODE).json()["limits"]["timeout_s"] == 10
    allowed = client.post("/v1/jobs", json={**CODE, "limits": {"timeout_s": 9}})
    assert allowed.json()["limits"]["timeout_s"] == 9
    for body, field in (
        ({"limits": {"timeout_s": 11}}, "limits.timeout_s"),
        ({"profile": "extended"}, "profile"),
    ):
        refused = client.post("/v1/jobs", json={**CODE, **body})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
        assert refused.json()["errors"][0]["allowed"]


def test_quotas_are_set_as_a_whole(admin: httpx.Client) -> None:
    team = caller(admin, running=2, queued=7)
    path = f"{team['links']['self']}/quotas"
    changed = admin.put(path, json={"quotas": {"queued": 8}}).json()
    assert (changed["quotas"]["running"], changed["quotas"]["queued"]) == (None, 8)
    assert admin.get(team["links"]["self"]).json() == changed
    assert admin.put(f"/v1/callers/{uuid4()}/quotas", json={"quotas": {}}).status_code == 404


def test_refused_keys_are_limited_by_address(start: Callable[..., Server], connect: Connect, key: str) -> None:
    """And whoever is remembered is not hurt by a neighbour who guesses."""
    served = start(refusals_per_s="0.001", key_cache_s="3600", trusted_proxies="127.0.0.0/8, ::1")
    good = connect(served.url)
    bad = connect(served.url, "rt_" + "x" * 43)

    def statuses(forwarded: str, times: int) -> list[int]:
        headers = {"X-Forwarded-For": forwarded}
        return [bad.get("/v1/jobs", headers=headers).status_code for _ in range(times)]

    assert good.get("/v1/jobs").status_code == 200
    assert statuses("203.0.113.7", 7) == [401] * 5 + [429] * 2
    # The last hop that is not trusted counts, whatever is written before it.
    assert statuses("198.51.100.1, 203.0.113.7, 127.0.0.9", 1) == [429]
    assert statuses("203.0.113.8", 1) == [401]
    assert good.get("/v1/jobs", headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 200
