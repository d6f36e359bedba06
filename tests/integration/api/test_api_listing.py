"""Lists with filters, answers that are kept, compressed or read by other origins."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from api.filters import condition
from api.listing import list_jobs
from domain.tables.caller import callers
from tests.integration.api.harness import Server, Store

Connect = Callable[..., httpx.Client]


def submit(client: httpx.Client, code: str = "print(1)", **fields: Any) -> dict[str, Any]:
    document: dict[str, Any] = client.post("/v1/jobs", json={"code": code, **fields}).json()
    return document


def listed(client: httpx.Client, **query: str) -> list[str]:
    answer = client.get("/v1/jobs", params=query)
    assert answer.status_code == 200
    return [job["id"] for job in answer.json()["jobs"]]


def test_filters(client: httpx.Client, store: Store, connect: Connect) -> None:
    first = submit(client, "x = 'Hello 100%'", labels={"course": "intro", "a=b": "c"})
    second = submit(client, "print(_hello)", labels={"course": "advanced"})
    submit(connect(str(client.base_url), store.key("bob")), "hello", labels={"course": "intro"})
    one, two = first["id"], second["id"]
    store.finish(UUID(two))
    for query, expected in (
        ({"label": "course"}, [two, one]),
        ({"label": "course=intro"}, [one]),
        ({"label": "course="}, []),
        ({"label": "nothing"}, []),
        ({"text": "hello"}, [two, one]),
        ({"text": "100%"}, [one]),
        ({"text": "_h"}, [two]),
        ({"text": "%"}, [one]),
        ({"text": "'; DROP TABLE jobs; --"}, []),
        ({"since": first["created_at"], "until": second["created_at"]}, [one]),
        ({"since": second["created_at"]}, [two]),
        ({"since": "9999-12-31T23:59:59Z"}, []),
        ({"until": "0001-01-01T00:00:00z"}, []),
        ({"until": "2000-01-01T00:00:00.123456789-23:59"}, []),
        ({"text": "hello", "label": "course", "state": "finished", "verdict": "ok"}, [two]),
    ):
        assert listed(client, **query) == expected, query
    # A page's link keeps what it was narrowed by.
    page = client.get("/v1/jobs", params={"text": "hello", "label": "course", "limit": "1"}).json()
    assert [job["id"] for job in client.get(page["links"]["next"]).json()["jobs"]] == [one]


@pytest.mark.parametrize("near", [1, 3, 1000])
def test_a_text_and_words_wherever_they_meet(client: httpx.Client, store: Store, near: int) -> None:
    """However many jobs are read for it, and from wherever a page begins."""
    found: list[tuple[UUID, str, str]] = []
    for number in range(24):
        code = "a needle" if number % 3 == 0 else "hay"
        verdict = "error" if number % 4 == 0 else "ok"
        job_id = UUID(submit(client, code)["id"])
        if number != 12:
            store.finish(job_id, verdict=verdict, publish=False)
            found.append((job_id, code, verdict))
    with store.engine.connect() as connection:
        caller_id = connection.execute(select(callers.c.id)).scalar_one()
    text = [condition("text", "NEEDLE")]
    for verdict in ("error", "ok", "timeout"):
        wanted = [job_id for job_id, code, its in reversed(found) if (code, its) == ("a needle", verdict)]
        words = [condition("verdict", verdict)]
        for most in (1, 3, 50):
            for at in range(-1, len(wanted)):
                below = wanted[at] if at >= 0 else None
                statement = list_jobs(caller_id, below=below, most=most, listed=words, also=text, near=near)
                with store.engine.connect() as connection:
                    shown = [row.id for row in connection.execute(statement)]
                assert shown == wanted[at + 1 :][:most]
    newest_error = str([job_id for job_id, code, its in found if (code, its) == ("a needle", "error")][-1])
    assert listed(client, text="needle", verdict="error", limit="1") == [newest_error]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", ""),
        ("label", "=x"),
        ("label", "a\x00"),
        ("text", ""),
        ("text", "x" * 201),
        ("text", "\x00"),
        ("since", "yesterday"),
        ("since", "2026-11-21"),
        ("since", "2026-11-21T10:00:00"),
        ("since", "2026-13-21T10:00:00Z"),
        ("since", "0001-01-01T00:00:00+23:59"),
        ("until", "²026-11-21T10:00:00Z"),
        ("until", "2026-11-21T10:00:00Z\n"),
        ("order", "id"),
    ],
)
def test_wrong_filters(client: httpx.Client, name: str, value: str) -> None:
    answer = client.get("/v1/jobs", params={name: value})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, name)


def test_a_finished_job_has_an_etag(client: httpx.Client, store: Store, connect: Connect) -> None:
    job = submit(client)
    path = job["links"]["self"]
    unfinished = client.get(path, headers={"If-None-Match": "*"})
    assert (unfinished.status_code, "etag" in unfinished.headers) == (200, False)
    assert unfinished.headers["cache-control"] == "no-store"
    store.finish(UUID(job["id"]))
    finished = client.get(path)
    tag = finished.headers["etag"]
    assert finished.headers["cache-control"] == "private, no-cache"
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        kept = client.get(path, headers={"If-None-Match": given})
        assert (kept.status_code, kept.content, kept.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"x"'}).json() == finished.json()
    mallory = connect(str(client.base_url), store.key("mallory"))
    assert mallory.get(path, headers={"If-None-Match": tag}).status_code == 404


def test_large_answers_are_compressed(client: httpx.Client) -> None:
    job = submit(client, "#" * 100_000)
    large = client.get(job["links"]["self"])
    assert (large.headers["content-encoding"], large.json()["code"]) == ("gzip", "#" * 100_000)
    plain = client.get(job["links"]["self"], headers={"Accept-Encoding": "identity"})
    assert ("content-encoding" in plain.headers, plain.json()) == (False, large.json())
    assert "content-encoding" not in client.get("/v1/profiles").headers


ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = {
    **ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


def test_no_other_origin_may_call(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs", headers=ORIGIN)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.options("/v1/jobs", headers=PREFLIGHT).status_code == 405


def test_an_origin_that_an_operator_named_may_call(start: Callable[..., Server], key: str) -> None:
    url = start(cors_origins="https://app.example, https://other.example").url
    allowed = httpx.options(f"{url}/v1/jobs", headers=PREFLIGHT)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN["Origin"])
    stranger = httpx.options(f"{url}/v1/jobs", headers={**PREFLIGHT, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers
    # Also what is refused can be read; cookies and the like are not asked for.
    refused = httpx.get(f"{url}/v1/jobs", headers=ORIGIN)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN["Origin"])
    answer = httpx.get(f"{url}/v1/jobs", headers={**ORIGIN, "Authorization": f"Bearer {key}"})
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
