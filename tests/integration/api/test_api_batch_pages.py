"""Batches in the pages: how far each is, its runs, its results, cancelled and deleted; a filter of runs."""

import json
import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.quotas import Scope
from tests.integration.api.harness import Server, Store
from tests.visitor import Visitor

RUN = re.compile(r'href="/runs/([0-9a-f-]{36})"')


@pytest.fixture
def batch(client: httpx.Client) -> dict[str, Any]:
    """A batch of hers, of three."""
    asked = [{"code": f"print({n})", "labels": {"<b>": str(n)}} for n in range(3)]
    made: dict[str, Any] = client.post("/v1/batches?name=%3Cb%3Enight", json={"jobs": asked}).json()
    return made


def ids(client: httpx.Client, batch: dict[str, Any]) -> list[UUID]:
    """Its jobs in the order of the batch."""
    found = client.get("/v1/jobs", params={"batch": batch["id"]}).json()["jobs"]
    return [UUID(job["id"]) for job in reversed(found)]


def test_a_batch_from_its_beginning_to_its_end(
    visitor: Visitor, client: httpx.Client, store: Store, batch: dict[str, Any]
) -> None:
    client.post("/v1/jobs", json={"code": "1"})
    path = f"/batches/{batch['id']}"
    first, second, third = ids(client, batch)
    listed = visitor.get("/batches").text
    assert f'href="{path}"' in listed
    assert "&lt;b&gt;night" in listed
    assert 'aria-label="0 of 3 have ended"' in listed
    store.finish(first)
    store.finish(second, verdict="error", exit_code=1)
    shown = visitor.get(path).text
    assert 'aria-label="2 of 3 have ended"' in shown
    assert 'hx-trigger="every 2s"' in shown
    assert RUN.findall(shown) == [str(third), str(second), str(first)]
    for query in ("verdict=ok", "verdict=error", "state=queued"):
        assert f'href="/runs?batch={batch["id"]}&amp;{query}"' in shown
    assert RUN.findall(visitor.get(f"/runs?batch={batch['id']}&verdict=error").text) == [str(second)]
    assert f'value="{batch["id"]}"' in visitor.get(f"/runs?batch={batch['id']}").text
    assert f'href="{path}"' in visitor.get(f"/runs/{first}").text

    assert visitor.post(f"{path}/delete", {}, page=path).status_code == 409
    assert visitor.post(f"{path}/cancel", {}, page=path).headers["location"] == path
    ended = visitor.get(path).text
    assert "hx-trigger" not in ended
    assert "<dd>cancelled</dd>" in ended
    assert 'class="badge t-quiet">cancelled' in visitor.get("/batches").text
    saved = visitor.get(f"{path}/results")
    assert saved.headers["content-disposition"] == f'attachment; filename="batch-{batch["id"]}.ndjson"'
    assert [json.loads(line)["state"] for line in saved.text.splitlines()] == [
        "finished",
        "finished",
        "cancelled",
    ]
    assert visitor.post(f"{path}/delete", {}, page=path).headers["location"] == "/batches"
    assert visitor.get(path).status_code == 404
    assert store.count_jobs() == 1


def test_a_part_is_no_whole_page(visitor: Visitor, batch: dict[str, Any]) -> None:
    for path, begins in (("/batches", "<section"), (f"/batches/{batch['id']}", "<article")):
        part = visitor.get(path, **{"HX-Request": "true"})
        assert part.text.lstrip().startswith(begins)
        assert "<html" not in part.text


def test_pages_of_the_list(visitor: Visitor, client: httpx.Client) -> None:
    made = [client.post("/v1/batches", json={"jobs": [{"code": "1"}]}).json()["id"] for _ in range(3)]
    first = visitor.get("/batches?limit=2").text
    older = re.search(r'href="(/batches\?cursor=[^"]*)"', first)
    assert older is not None
    second = visitor.get(older[1]).text
    found = re.findall(r'href="/batches/([0-9a-f-]{36})"', first + second)
    assert found == made[::-1]
    assert "hx-trigger" not in second


def test_another_callers_batch_is_none(
    visitor: Visitor, store: Store, server: Server, batch: dict[str, Any]
) -> None:
    with Visitor(server.url) as bob:
        bob.sign_in(store.key("bob"))
        assert str(batch["id"]) not in bob.get("/batches").text
        for path in (f"/batches/{batch['id']}", f"/batches/{uuid4()}", "/batches/nonsense"):
            assert bob.get(path).status_code == bob.get(f"{path}/results").status_code == 404
        for action in ("cancel", "delete"):
            theirs = bob.post(f"/batches/{batch['id']}/{action}", {}, page="/runs")
            assert theirs.status_code == 404
    assert store.count_jobs() == 3


def test_who_may_only_read_is_offered_nothing_else(store: Store, server: Server, batch: dict[str, Any]) -> None:
    path = f"/batches/{batch['id']}"
    with Visitor(server.url) as reader:
        reader.sign_in(store.key("alice", scopes=[Scope.READ]))
        assert "Cancel" not in reader.get(path).text
        assert reader.post(f"{path}/cancel", {}, page=path).status_code == 403
