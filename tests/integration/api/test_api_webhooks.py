"""Webhooks as their callers manage them, and the outbox that ends of jobs fill. Nothing is sent here."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, text

from domain.tables.webhook import webhook_deliveries, webhooks
from tests.integration.api.harness import Server, Store

Connect = Callable[..., httpx.Client]
URL = "https://example.com/hook"


def create(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == made["links"]["self"]
    return made


def submit(client: httpx.Client) -> UUID:
    return UUID(client.post("/v1/jobs", json={"code": "1", "labels": {"a": "b"}}).json()["id"])


def deliveries(client: httpx.Client, hook: dict[str, Any], **params: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(hook["links"]["deliveries"], params=params).json()["deliveries"]
    return found


def test_a_webhook_from_birth_to_death(client: httpx.Client, store: Store) -> None:
    made = create(client, description="mine")
    assert made["secret"].startswith("whsec_")
    assert (made["events"], made["enabled"], made["failing_since"]) == (["job"], True, None)
    path = made["links"]["self"]
    assert client.get(path).json() == {**made, "secret": None}
    assert client.get("/v1/webhooks").json() == {"webhooks": [{**made, "secret": None}], "next_cursor": None}
    changed = client.patch(path, json={"enabled": False, "events": ["job.broken", "job.broken"]}).json()
    assert (changed["enabled"], changed["events"], changed["url"]) == (False, ["job.broken"], URL)
    assert client.patch(path, json={}).json() == changed
    assert client.delete(path).status_code == 204
    for gone in (client.get(path), client.delete(path), client.patch(path, json={})):
        assert gone.status_code == 404


def test_secrets_are_sealed_in_the_database(client: httpx.Client, store: Store) -> None:
    made = create(client)
    with store.engine.begin() as connection:
        before = connection.execute(select(webhooks.c.secret)).scalar_one()
    turned = client.post(f"{made['links']['self']}/rotate", json={"overlap_s": 60}).json()
    assert turned["secret"] not in {None, made["secret"]}
    assert turned["former_secret_until"] is not None
    with store.engine.begin() as connection:
        row = connection.execute(select(webhooks)).one()
    assert bytes(row.former_secret) == bytes(before)
    for shown in (made["secret"], turned["secret"]):
        assert shown.removeprefix("whsec_").encode() not in bytes(row.secret) + bytes(row.former_secret)


def test_the_same_key_makes_one_webhook(client: httpx.Client, store: Store) -> None:
    headers = {"Idempotency-Key": "k"}
    first, second = (client.post("/v1/webhooks", json={"url": URL}, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == {**first.json(), "secret": None}
    other = client.post("/v1/webhooks", json={"url": URL + "2"}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:retort:problem:idempotency-key-reused")


def test_a_caller_has_only_so_many(client: httpx.Client, store: Store) -> None:
    for _ in range(3):
        create(client)
    answer = client.post("/v1/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json()["type"]) == (429, "urn:retort:problem:quota-exceeded")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "http://example.com"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "https://exa\x00mple.com/"}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["job.finished.nonsense"]}, "events.0"),
        ({"url": URL, "secret": "mine"}, "secret"),
        ({"url": URL, "description": "\x00"}, "description"),
        ({"url": URL, "enabled": True}, "enabled"),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = client.post("/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_without_a_key_for_secrets_there_are_none(
    start: Callable[..., Server], connect: Connect, store: Store
) -> None:
    answer = connect(start().url).post("/v1/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:retort:problem:no-webhooks")
    assert "RETORT_WEBHOOK_KEY_FILE" in answer.json()["detail"]


def test_another_callers_webhook_is_none(
    client: httpx.Client, connect: Connect, server: Server, store: Store
) -> None:
    made, mallory = create(client), connect(server.url, store.key("mallory"))
    ping = client.post(f"{made['links']['self']}/test").json()
    again = f"{made['links']['deliveries']}/{ping['id']}/redeliver"
    for method, path in (
        ("GET", made["links"]["self"]),
        ("PATCH", made["links"]["self"]),
        ("DELETE", made["links"]["self"]),
        ("GET", made["links"]["deliveries"]),
        ("POST", f"{made['links']['self']}/test"),
        ("POST", f"{made['links']['self']}/rotate"),
        ("POST", again),
        # Nor does a webhook of one's own help.
        ("POST", again.replace(made["id"], create(mallory)["id"])),
    ):
        body: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
        assert mallory.request(method, path, **body).status_code == 404, (method, path)
    submit(mallory)
    assert [each["event"] for each in deliveries(client, made)] == ["webhook.test"]


# --- the outbox ---------------------------------------------------------------------------------------


def test_every_end_of_a_job_is_told_to_who_wants_it(client: httpx.Client, store: Store) -> None:
    everything = create(client)
    failures = create(client, events=["job.finished.error", "job.finished.timeout", "job.broken"])
    finished = create(client, events=["job.finished", "job.finished.ok"])
    right, wrong, ended, lost = (submit(client) for _ in range(4))
    store.finish(right)
    store.finish(wrong, verdict="error", exit_code=1)
    assert client.post(f"/v1/jobs/{ended}/cancel").status_code == 200
    with store.engine.begin() as connection:
        given_up = "UPDATE jobs SET state = 'broken', finished_at = now(), reason = 'lost' WHERE id = :id"
        connection.execute(text(given_up), {"id": lost})

    def told(hook: dict[str, Any]) -> list[tuple[str, str]]:
        found = deliveries(client, hook)
        assert [each["id"] for each in found] == sorted((each["id"] for each in found), reverse=True)
        return [(each["job_id"], each["event"]) for each in reversed(found)]

    ok, error = (str(right), "job.finished.ok"), (str(wrong), "job.finished.error")
    cancelled, broken = (str(ended), "job.cancelled"), (str(lost), "job.broken")
    assert told(everything) == [ok, error, cancelled, broken]
    assert told(failures) == [error, broken]
    assert told(finished) == [ok, error]
    with store.engine.begin() as connection:
        data = connection.execute(
            select(webhook_deliveries.c.data).where(webhook_deliveries.c.event == "job.broken").limit(1)
        ).scalar_one()
    assert data == {
        "id": str(lost),
        "state": "broken",
        "verdict": None,
        "outcome": None,
        "reason": "lost",
        "language": "python",
        "labels": {"a": "b"},
        "links": {"self": f"/v1/jobs/{lost}"},
    }


def a_batch(client: httpx.Client, *codes: str) -> tuple[dict[str, Any], list[UUID]]:
    """A batch, and the ids of its jobs in its order."""
    batch = client.post("/v1/batches?name=b", json={"jobs": [{"code": code} for code in codes]}).json()
    jobs = client.get("/v1/jobs", params={"batch": batch["id"]}).json()["jobs"]
    return batch, [UUID(job["id"]) for job in reversed(jobs)]


def test_the_end_of_a_batch_is_told_once(client: httpx.Client, store: Store) -> None:
    wants = create(client, events=["batch"])
    others = [create(client), create(client, events=["batch.cancelled"])]
    batch, (first, second, third) = a_batch(client, "1", "2", "3")
    store.finish(first)
    client.post(f"/v1/jobs/{third}/cancel")
    assert deliveries(client, wants) == []
    store.finish(second, verdict="error", exit_code=1)
    (told,) = deliveries(client, wants)
    assert (told["event"], told["job_id"], told["batch_id"]) == ("batch.finished", None, batch["id"])
    assert told["links"]["batch"] == batch["links"]["self"]
    assert [[each["event"] for each in deliveries(client, other)] for other in others] == [
        ["job.finished.error", "job.cancelled", "job.finished.ok"],
        [],
    ]
    with store.engine.begin() as connection:
        found = select(webhook_deliveries.c.data).where(webhook_deliveries.c.event == "batch.finished")
        assert connection.execute(found).scalar_one() == {
            "id": batch["id"],
            "name": "b",
            "state": "ended",
            "total": 3,
            "counts": {"finished": 2, "cancelled": 1},
            "verdicts": {"ok": 1, "error": 1},
            "links": {name: batch["links"][name] for name in ("self", "results")},
        }
    assert client.delete(batch["links"]["self"]).status_code == 204
    assert deliveries(client, wants) == []


def test_a_cancelled_batch_is_told_once(client: httpx.Client, store: Store) -> None:
    made = create(client, events=["batch"])
    batch, (first, *_) = a_batch(client, *map(str, range(40)))
    store.begin(first)
    for _ in range(2):
        assert client.post(f"{batch['links']['self']}/cancel").json()["state"] == "ended"
    assert [told["event"] for told in deliveries(client, made)] == ["batch.cancelled"]


def test_jobs_of_a_batch_that_end_at_the_same_time_tell_once(client: httpx.Client, store: Store) -> None:
    """Four at a time, of ten batches, and two that wait for each other's commit."""
    made = create(client, events=["batch"])
    batches = [a_batch(client, *map(str, range(12))) for _ in range(10)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.finish, (job for _, jobs in batches for job in jobs)))
    batch, (first, second) = a_batch(client, "1", "2")
    given_up = text("UPDATE jobs SET state = 'broken', finished_at = now() WHERE id = :id")
    with ThreadPoolExecutor(1) as pool:
        with store.engine.begin() as connection:
            connection.execute(given_up, {"id": first})
            ending = pool.submit(store.finish, second)
        ending.result(60)
    told = [each["batch_id"] for each in deliveries(client, made)]
    assert sorted(told) == sorted(each["id"] for each, _ in [*batches, (batch, [])])


def test_what_is_disabled_is_told_nothing(client: httpx.Client, store: Store) -> None:
    made = create(client)
    client.patch(made["links"]["self"], json={"enabled": False})
    store.finish(submit(client))
    assert deliveries(client, made) == []


def test_deliveries_go_with_their_job_and_their_webhook(client: httpx.Client, store: Store) -> None:
    made, other = create(client), create(client)
    job = submit(client)
    store.finish(job)
    client.delete(made["links"]["self"])
    assert client.get(made["links"]["deliveries"]).status_code == 404
    assert len(deliveries(client, other)) == 1
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert deliveries(client, other) == []


def test_a_webhook_that_is_being_deleted_holds_up_no_job(client: httpx.Client, store: Store) -> None:
    made, job = create(client), submit(client)
    with store.engine.begin() as deleting:
        deleting.execute(webhooks.delete().where(webhooks.c.id == UUID(made["id"])))
        store.finish(job)  # passes it over, and waits for nobody
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "finished"


def test_pages_and_states_of_deliveries(client: httpx.Client, store: Store) -> None:
    made = create(client)
    pings = [client.post(f"{made['links']['self']}/test").json() for _ in range(3)]
    assert {(ping["state"], ping["attempts"], ping["job_id"]) for ping in pings} == {("waiting", 0, None)}
    page = client.get(made["links"]["deliveries"], params={"limit": "2"}).json()
    rest = client.get(made["links"]["deliveries"], params={"cursor": page["next_cursor"]}).json()
    found = [each["id"] for each in page["deliveries"] + rest["deliveries"]]
    assert found == [ping["id"] for ping in reversed(pings)]
    assert deliveries(client, made, state="failed") == []
    answer = client.get(made["links"]["deliveries"], params={"state": "lost"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "state")


def test_a_delivery_begins_anew(client: httpx.Client, store: Store) -> None:
    made = create(client)
    ping = client.post(f"{made['links']['self']}/test").json()
    with store.engine.begin() as connection:
        ended = "UPDATE webhook_deliveries SET state = 'failed', attempts = 9, last_error = 'x'"
        connection.execute(text(ended))
    path = f"{made['links']['deliveries']}/{ping['id']}/redeliver"
    again = client.post(path).json()
    assert {**again, "next_at": ""} == {**ping, "next_at": ""}
    with store.engine.begin() as connection:  # while it is being sent it stays as it is
        taken = (
            "UPDATE webhook_deliveries SET token = :token, attempts = 1, next_at = now() + interval '1 minute'"
        )
        connection.execute(text(taken), {"token": uuid4()})
    assert client.post(path).json()["attempts"] == 1
    assert client.post(path.replace(ping["id"], str(uuid4()))).status_code == 404
