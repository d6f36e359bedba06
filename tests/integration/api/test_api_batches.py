"""Batches over HTTP: stored whole or not at all, counted, read, cancelled, deleted. Workers are rows here."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, select, text, update

from domain.claiming import CLAIM
from domain.quotas import Scope
from domain.tables.attempt import artifacts, attempts
from domain.tables.caller import api_keys, callers
from domain.tables.job import batches, jobs
from domain.tables.usage import past_usage
from tests.integration.api.harness import Server, Store

Connect = Callable[..., httpx.Client]
NDJSON = {"Content-Type": "application/x-ndjson"}
JOBS: list[dict[str, Any]] = [{"code": f"print({n})", "labels": {"n": str(n)}} for n in range(3)]


def lines(*found: dict[str, Any] | str) -> bytes:
    return "\n".join(each if isinstance(each, str) else json.dumps(each) for each in found).encode()


def submit(client: httpx.Client, *found: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = client.post("/v1/batches", content=lines(*(found or JOBS)), headers={**NDJSON, **headers})
    assert answer.status_code == 202, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


def rows(store: Store, batch: dict[str, Any]) -> list[Any]:
    with store.engine.begin() as connection:
        found = select(jobs).where(jobs.c.batch_id == UUID(batch["id"])).order_by(jobs.c.batch_index)
        return list(connection.execute(found))


def results(client: httpx.Client, batch: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.get(batch["links"]["results"])
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def count(store: Store, table: Any) -> int:
    with store.engine.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# --- storing ------------------------------------------------------------------------------------------


def test_a_batch_from_a_list_and_from_lines_is_the_same(client: httpx.Client, store: Store) -> None:
    whole = {
        "code": "import sys",
        "stdin": "a\x00ü",
        "args": ["a,b", '"', "{}", ""],
        "env": {"A": "1"},
        "files": [{"name": "in.txt", "content": "hello"}, {"name": "b", "base64": "AP8="}],
        "limits": {"timeout_s": 7, "cpus": 0.5},
    }
    asked: list[dict[str, Any]] = [*JOBS, whole]
    made = [
        client.post("/v1/batches?name=night", json={"jobs": asked}),
        client.post("/v1/batches?name=night", content=lines(*asked) + b"\r\n\n", headers=NDJSON),
    ]
    assert [answer.status_code for answer in made] == [202, 202]
    for answer in made:
        batch = answer.json()
        assert answer.headers["location"] == batch["links"]["self"]
        assert (batch["name"], batch["total"], batch["state"]) == ("night", 4, "running")
        assert batch["counts"]["queued"] == 4
        assert batch == client.get(batch["links"]["self"]).json()
    one, other = (rows(store, answer.json()) for answer in made)
    own = {"id", "batch_id", "created_at", "rung_at"}
    assert [{k: v for k, v in row._asdict().items() if k not in own} for row in one] == [
        {k: v for k, v in row._asdict().items() if k not in own} for row in other
    ]
    # Stored as a single job is.
    single = UUID(client.post("/v1/jobs", json={**whole, "priority": "batch"}).json()["id"])
    with store.engine.begin() as connection:
        alone = connection.execute(select(jobs).where(jobs.c.id == single)).one()
    own |= {"batch_index"}
    assert {k: v for k, v in one[3]._asdict().items() if k not in own} == {
        k: v for k, v in alone._asdict().items() if k not in own
    }
    assert {row.priority for row in one} == {"batch"}
    assert [row.batch_index for row in one] == [0, 1, 2, 3]
    shown = client.get(f"/v1/jobs/{one[0].id}").json()
    assert shown["batch_id"] == made[0].json()["id"]
    listed = client.get("/v1/jobs", params={"batch": made[0].json()["id"]}).json()["jobs"]
    assert [job["labels"].get("n") for job in listed] == [None, "2", "1", "0"]


def test_tasks_go_to_the_model_for_batches(client: httpx.Client, store: Store) -> None:
    """Without a model a task is for `auto`, and the priority chooses the role; tests of routing show which."""
    refused = client.post("/v1/batches", content=lines(JOBS[0], {"task": "t"}), headers=NDJSON)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:retort:problem:no-gateway")
    assert "lines.2" in refused.json()["detail"]
    store.serve_models("gpt-4.1")
    (row,) = rows(store, submit(client, {"task": "t", "budget_usd": "0.5", "check": {"stdout": "1"}}))
    assert (row.next_state, row.policy["model"], row.priority) == ("generating", "auto", "batch")
    assert (str(row.budget_usd), row.check_by) == ("0.5", {"stdout": "1"})
    assert store.redis.llen("model.batch") == 1


NOBODYS = {"name": "x", "file": str(UUID(int=5))}

#: What stands behind a good line, the status and kind of the problem, and what it names.
BAD: list[tuple[str, bytes, int, str, str]] = [
    ("broken JSON", b'{"code": ', 400, "bad-json", "lines.2: "),
    ("a list", b"[]", 422, "invalid", "lines.2.body"),
    ("a name twice", b'{"code": "1", "code": "2"}', 422, "invalid", "lines.2.code"),
    ("an unknown field", lines("", {"code": "1", "colour": 1}), 422, "invalid", "lines.3.colour"),
    ("a limit", lines({"code": "1", "limits": {"cpus": 99}}), 422, "invalid", "lines.2.limits.cpus"),
    ("both", lines({"code": "1", "task": "2"}), 422, "invalid", "lines.2.code"),
    ("urgency", lines({"code": "1", "priority": "interactive"}), 422, "invalid", "lines.2.priority"),
    ("a wrong name", lines({"code": "1", "files": [{"name": "/"}]}), 422, "invalid", "lines.2.files.0.name"),
    ("a file of nobody", lines({"code": "1", "files": [NOBODYS]}), 422, "invalid", "lines.2.files.0.file"),
    ("NUL", lines({"code": "a\x00"}), 422, "invalid", "lines.2.code"),
    ("a long line", b'{"code": "' + b"x" * 5_000_000, 413, "body-too-large", "lines.2"),
    ("bytes", b"\xff\xfe\n", 400, "bad-json", "lines.2"),
]


@pytest.mark.parametrize(("body", "status", "kind", "names"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_one_bad_line_and_nothing_is_stored(
    client: httpx.Client, store: Store, body: bytes, status: int, kind: str, names: str
) -> None:
    answer = client.post("/v1/batches", content=lines(JOBS[0]) + b"\n" + body, headers=NDJSON)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:retort:problem:{kind}")
    assert names in answer.json()["detail"]
    assert store.count_jobs() == count(store, batches) == 0


def test_a_batch_of_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/batches", content=b"\n \n", headers=NDJSON)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "jobs")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"jobs": []}, "jobs"),
        ({}, "jobs"),
        ({"jobs": {}}, "jobs"),
        ({"jobs": [1]}, "jobs.0"),
        ({"jobs": [{"code": "1"}], "priority": "batch"}, "priority"),
        ({"jobs": [{"code": "1"}, {"code": 1}, {"code": "1", "args": [1]}]}, "jobs.1.code"),
    ],
)
def test_what_is_no_list_of_jobs(client: httpx.Client, store: Store, body: Any, names: str) -> None:
    answer = client.post("/v1/batches", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == names
    assert store.count_jobs() == 0


def test_all_wrong_lines_are_named_up_to_a_bound(client: httpx.Client, store: Store) -> None:
    answer = client.post("/v1/batches", json={"jobs": [JOBS[0], {}, {"code": 1}]})
    assert [e["field"] for e in answer.json()["errors"]] == ["jobs.1.code", "jobs.1.task", "jobs.2.code"]
    answer = client.post("/v1/batches", json={"jobs": [{}] * 1000})
    assert len(answer.json()["errors"]) == 20


@pytest.mark.parametrize("kind", ["text/plain", "application/x-ndjson; charset=latin-1", "application/jsonl"])
def test_other_types_of_bodies_are_refused(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/batches", content=lines(*JOBS), headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:retort:problem:unsupported-media-type")


def test_ten_thousand_jobs(start: Callable[..., Server], connect: Connect, store: Store) -> None:
    """All of them in few statements; a further line, or a further byte, and there is none."""
    client = connect(start(max_batch_bytes=str(4 * 2**20)).url)
    many = [{"code": f"print({n})"} for n in range(10_000)]
    refused = client.post("/v1/batches", content=lines(*many, JOBS[0]), headers=NDJSON)
    assert (refused.status_code, refused.json()["errors"][0]["allowed"]) == (422, "at most 10000")
    huge = client.post("/v1/batches", content=lines(*many, "x" * 5 * 2**20), headers=NDJSON)
    assert huge.status_code == 413
    assert store.count_jobs() == 0
    batch = submit(client, *many)
    assert (batch["total"], batch["counts"]["queued"]) == (10_000, 10_000)
    assert store.count_jobs() == 10_000
    # The limit of jobs that wait holds, and tells what is there; others, and what is urgent, find room.
    over = client.post("/v1/batches", content=lines(*JOBS), headers=NDJSON)
    assert (over.status_code, over.json()["type"]) == (429, "urn:retort:problem:quota-exceeded")
    assert "10000 jobs of this caller wait" in over.json()["detail"]
    assert client.post("/v1/jobs", json={"code": "1"}).status_code == 202


def test_a_batch_that_is_too_large_for_a_quota(server: Server, connect: Connect, store: Store) -> None:
    client = connect(server.url, store.key("small"))
    with store.engine.begin() as connection:
        connection.execute(text("""UPDATE callers SET quotas = '{"queued": 2}' WHERE name = 'small'"""))
    over = client.post("/v1/batches", content=lines(*JOBS), headers=NDJSON)
    assert (over.status_code, over.json()["errors"][0]["allowed"]) == (429, "at most 2")
    assert "3 more were sent" in over.json()["detail"]
    assert store.count_jobs() == 0
    assert submit(client, *JOBS[:2])["total"] == 2


def test_ceilings_hold_for_every_line(server: Server, connect: Connect, store: Store) -> None:
    client = connect(server.url, store.key("low"))
    with store.engine.begin() as connection:
        quotas = '{"ceilings": {"timeout_s": 5}}'
        connection.execute(text("UPDATE callers SET quotas = :q WHERE name = 'low'"), {"q": quotas})
    over = client.post("/v1/batches", json={"jobs": [JOBS[0], {"code": "1", "limits": {"timeout_s": 6}}]})
    assert (over.status_code, over.json()["errors"][0]["field"]) == (422, "jobs.1.limits.timeout_s")
    assert {row.limits["timeout_s"] for row in rows(store, submit(client))} == {5}


# --- idempotency --------------------------------------------------------------------------------------


def test_one_key_makes_one_batch(client: httpx.Client, store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda _: client.post(
                    "/v1/batches", content=lines(*JOBS), headers={**NDJSON, "Idempotency-Key": "k"}
                ),
                range(16),
            )
        )
    assert {answer.status_code for answer in made} == {202}
    assert len({answer.json()["id"] for answer in made}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in made) == 15
    assert store.count_jobs() == 3
    other = client.post("/v1/batches", content=lines(*JOBS[:2]), headers={**NDJSON, "Idempotency-Key": "k"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:retort:problem:idempotency-key-reused")
    named = client.post("/v1/batches?name=n", json={"jobs": JOBS}, headers={"Idempotency-Key": "k"})
    assert named.status_code == 422
    # What is there needs no room, and is gone with the batch.
    with store.engine.begin() as connection:
        connection.execute(text("""UPDATE callers SET quotas = '{"queued": 1}'"""))
    batch = made[0].json()
    assert submit(client, **{"Idempotency-Key": "k"})["id"] == batch["id"]
    client.post(f"{batch['links']['self']}/cancel")
    client.delete(batch["links"]["self"])
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE callers SET quotas = '{}'"))
    assert submit(client, **{"Idempotency-Key": "k"})["id"] != batch["id"]


# --- progress and results -----------------------------------------------------------------------------


def test_progress_and_results_while_it_runs(client: httpx.Client, store: Store) -> None:
    batch = submit(client)
    where = batch["links"]["self"]
    ids = [row.id for row in rows(store, batch)]
    assert results(client, batch) == []
    store.finish(ids[2], stdout=b"2\n")
    store.begin(ids[0])
    now = client.get(where).json()
    assert (now["state"], now["verdicts"], now["finished_at"]) == ("running", {"ok": 1}, None)
    assert {name: n for name, n in now["counts"].items() if n} == {"queued": 1, "running": 1, "finished": 1}
    (early,) = results(client, batch)
    assert (early["index"], early["stdout"], early["labels"]) == (2, "2\n", {"n": "2"})
    assert {k: v for k, v in early.items() if k != "index"} == client.get(f"/v1/jobs/{ids[2]}").json()
    store.end(ids[0], verdict="error", exit_code=1, stdout=b"\xff")
    store.finish(ids[1], verdict="ok")
    now = client.get(where).json()
    assert (now["state"], now["verdicts"]) == ("ended", {"error": 1, "ok": 2})
    assert now["finished_at"] == max(client.get(f"/v1/jobs/{i}").json()["finished_at"] for i in ids)
    assert [each["index"] for each in results(client, batch)] == [0, 1, 2]
    client.delete(f"/v1/jobs/{ids[1]}")
    assert client.get(where).json()["counts"]["deleted"] == 1
    assert [each["index"] for each in results(client, batch)] == [0, 2]


def test_the_result_of_a_job_that_is_nothing_at_all(client: httpx.Client) -> None:
    batch = client.post("/v1/batches", json={"jobs": [{"code": ""}]}).json()
    client.post(f"{batch['links']['self']}/cancel")
    (only,) = results(client, batch)
    assert (only["state"], only["index"]) == ("cancelled", 0)


def test_many_and_large_results_come_in_order(client: httpx.Client, store: Store) -> None:
    batch = submit(client, *({"code": str(n)} for n in range(450)))
    with store.engine.begin() as connection:
        connection.execute(update(jobs).values(state="running", lease_token=func.gen_random_uuid()))
        ended = {"state": "finished", "verdict": "ok", "finished_at": func.now(), "lease_token": None}
        connection.execute(update(jobs).values(ended))
        connection.execute(
            text(
                "INSERT INTO attempts (job_id, number, verdict, stdout, stdout_bytes) "
                "SELECT id, n, 'ok', convert_to(repeat('x', size) || n, 'UTF8'), size + 1 FROM "
                "(SELECT id, CASE WHEN batch_index % 100 = 7 THEN 1500000 ELSE batch_index END AS size "
                "FROM jobs) AS j, generate_series(1, 2) AS n"
            )
        )
    found = results(client, batch)
    assert [each["index"] for each in found] == list(range(450))
    assert [each["code"] for each in found] == [str(n) for n in range(450)]
    for n, each in enumerate(found):
        assert len(each["stdout"]) == (1_500_001 if n % 100 == 7 else n + 1)
        assert each["stdout"][-1] == "2"
        assert len(each["attempts"]) == 2


def test_lists_of_batches(client: httpx.Client, connect: Connect, server: Server, store: Store) -> None:
    ids = [submit(client)["id"] for _ in range(3)]
    submit(connect(server.url, store.key("mallory")))
    first = client.get("/v1/batches", params={"limit": 2}).json()
    assert [each["id"] for each in first["batches"]] == [ids[2], ids[1]]
    rest = client.get("/v1/batches", params={"cursor": first["next_cursor"]}).json()
    assert ([each["id"] for each in rest["batches"]], rest["next_cursor"]) == ([ids[0]], None)
    assert client.get("/v1/jobs", params={"batch": "x"}).status_code == 422


# --- cancel and delete --------------------------------------------------------------------------------


def test_cancel(client: httpx.Client, store: Store) -> None:
    batch = submit(client, *({"code": str(n)} for n in range(1200)))
    where = batch["links"]["self"]
    ids = [row.id for row in rows(store, batch)]
    store.finish(ids[5])
    store.begin(ids[600])
    refused = client.delete(where)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:retort:problem:job-unfinished")
    for _ in range(2):  # once more changes nothing
        now = client.post(f"{where}/cancel").json()
        assert {name: n for name, n in now["counts"].items() if n} == {"cancelled": 1199, "finished": 1}
        assert (now["state"], now["verdicts"]) == ("ended", {"ok": 1})
    assert now["cancelled_at"] is not None
    ran = client.get(f"/v1/jobs/{ids[600]}").json()
    assert (ran["reason"], ran["attempts"][0]["failure"]) == ("cancelled with its batch", "cancelled")
    assert client.get(f"/v1/jobs/{ids[0]}").json()["attempts"] == []


def test_cancel_beside_workers_that_claim(client: httpx.Client, store: Store) -> None:
    """Each job ends once: run or cancelled."""
    batch = submit(client, *({"code": str(n)} for n in range(300)))
    ids = [row.id for row in rows(store, batch)]

    def work(job_id: UUID) -> bool:
        token = uuid4()
        with store.engine.begin() as connection:
            values = {"b_id": job_id, "b_token": token, "b_worker": "w", "b_states": ["running"]}
            claimed = connection.execute(CLAIM, values).first()
        if claimed is None:
            return False
        try:
            store._end(job_id, token, verdict="ok")
        except AssertionError:  # it was cancelled meanwhile
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, job_id) for job_id in reversed(ids)]
        now = client.post(f"{batch['links']['self']}/cancel").json()
        ran = sum(each.result() for each in running)
    assert now["counts"]["queued"] == now["counts"]["running"] == 0
    assert now["counts"]["finished"] == ran
    assert now["counts"]["finished"] + now["counts"]["cancelled"] == 300


def test_delete_takes_everything_along_but_the_account(client: httpx.Client, store: Store) -> None:
    batch = submit(client, *({"code": str(n)} for n in range(1100)))
    single = client.post("/v1/jobs", json={"code": "1"}).json()
    for row in rows(store, batch)[:3]:
        store.finish(row.id)
    client.post(f"{batch['links']['self']}/cancel")
    for status in (204, 404):
        assert client.delete(batch["links"]["self"]).status_code == status
    assert store.only_job() == UUID(single["id"])
    assert count(store, attempts) == count(store, artifacts) == count(store, batches) == 0
    with store.engine.begin() as connection:
        (past,) = connection.execute(select(past_usage))
    assert (past.jobs, past.runs, past.wall_s, past.cpu_s) == (1100, 3, 0.75, 0.375)


def test_a_batch_of_somebody_else_is_none(
    client: httpx.Client, connect: Connect, server: Server, store: Store
) -> None:
    batch = submit(client)
    mallory = connect(server.url, store.key("mallory", list(Scope)))
    for method, path in [("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")]:
        theirs = mallory.request(method, batch["links"]["self"] + path)
        unknown = mallory.request(method, f"/v1/batches/{uuid4()}{path}")
        assert theirs.status_code == unknown.status_code == 404
        assert {**theirs.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    assert mallory.get("/v1/jobs", params={"batch": batch["id"]}).json()["jobs"] == []
    assert client.get(batch["links"]["self"]).json() == batch
    assert count(store, callers) == count(store, api_keys) == 2
