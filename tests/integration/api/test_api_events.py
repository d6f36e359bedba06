"""Event streams: live, late, cut and resumed."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, update

from domain.bell import OUTPUT_CHANNEL, Output, output_key
from domain.file_statements import EXPIRE_ARTIFACTS
from domain.tables.attempt import artifacts
from tests.harness import eventually
from tests.integration.api.harness import Server, Store

Connect = Callable[..., httpx.Client]
Event = tuple[str, str, dict[str, Any]]
CODE = {"code": "print(1)"}


@pytest.fixture
def plain(server: Server, key: str) -> Iterator[httpx.Client]:
    """A client that reads streams, instead of checking whole answers."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        yield client


def submit(client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.post("/v1/jobs", json=CODE).json()
    return document


def read(client: httpx.Client, path: str, after: str | None = None, most: int | None = None) -> list[Event]:
    """Events from an id on: all, or the first few, after which the connection is cut."""
    headers = {} if after is None else {"Last-Event-ID": after}
    found: list[Event] = []
    fields: dict[str, str] = {}
    with client.stream("GET", path, headers=headers) as answer:
        if answer.status_code == 204:
            return found
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                found.append((fields["id"], fields["event"], json.loads(fields["data"])))
                fields = {}
                if len(found) == most:
                    break
    return found


def kinds(events: list[Event]) -> list[str]:
    return [f"{event} {data['state']}" if event == "state" else event for _, event, data in events]


def written(events: list[Event], stream: str) -> str:
    return "".join(data["text"] for _, event, data in events if event == stream)


def files(*names: str) -> list[dict[str, Any]]:
    """Rows of artifacts with these names, as a worker stores them."""
    return [
        {"id": str(uuid4()), "name": name, "media_type": "text/plain", "size": n, "sha256": f"{n:064x}"}
        for n, name in enumerate(names)
    ]


class Program:
    """What a worker tells of a program that runs."""

    def __init__(self, store: Store, job_id: UUID) -> None:
        self.store = store
        self.job_id = job_id
        self.told = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes, *, lost: bool = False, attempt: int = 1) -> None:
        """Write to a stream; what is lost nobody hears of."""
        output = Output(attempt, stream, len(self.told[stream]), data)
        self.told[stream] += data
        if not lost:
            self.store.redis.xadd(output_key(self.job_id), output.fields())  # type: ignore[arg-type]
            self.store.redis.publish(OUTPUT_CHANNEL, str(self.job_id))

    def end(self, *left: str) -> None:
        """End well, with everything that was written kept, and files of these names."""
        self.store.end(self.job_id, stdout=self.told["stdout"], stderr=self.told["stderr"], kept=files(*left))


def test_a_job_that_ended_long_ago(plain: httpx.Client, store: Store) -> None:
    job = submit(plain)
    store.retry(UUID(job["id"]))
    store.finish(UUID(job["id"]), stdout="größe\n".encode(), stderr=b"\xff\xfe")
    events = read(plain, job["links"]["events"])
    assert kinds(events) == [
        "state queued",
        "state running",
        "attempt",
        "stdout",
        "stderr",
        "attempt",
        "state finished",
        "done",
    ]
    by_kind = {event: data for _, event, data in events}
    assert by_kind["stdout"] == {"attempt": 2, "at": 0, "text": "größe\n", "encoding": "utf-8"}
    assert by_kind["stderr"] == {"attempt": 2, "at": 0, "text": "//4=", "encoding": "base64"}
    assert by_kind["done"] == {"state": "finished", "verdict": "ok", "reason": None}
    # From any place on, the rest; after the last, that there is nothing more.
    for n, (event_id, _, _) in enumerate(events):
        assert read(plain, job["links"]["events"], after=event_id) == events[n + 1 :]


def test_artifacts_are_told_before_the_end(plain: httpx.Client, store: Store) -> None:
    job = submit(plain)
    store.retry(UUID(job["id"]))
    store.finish(UUID(job["id"]), kept=files("b c.txt", "a.txt", "ü.txt"))
    path = job["links"]["events"]
    events = read(plain, path)
    assert kinds(events)[-7:] == ["attempt", "attempt", *["artifact"] * 3, "state finished", "done"]
    told = [data for _, event, data in events if event == "artifact"]
    told = [dict(data) for data in told]
    assert [(data.pop("attempt"), data["name"]) for data in told] == [
        (2, "a.txt"),
        (2, "b c.txt"),
        (2, "ü.txt"),
    ]
    # As the attempt's own document has them, but for contents, which a stream never carries.
    attempt = plain.get(f"{job['links']['self']}/attempts/2").json()
    assert told == [{name: each[name] for name in told[0]} for each in attempt["artifacts"]]
    assert told[1]["links"]["self"].endswith("/artifacts/b%20c.txt?attempt=2")
    for n, (event_id, _, _) in enumerate(events):
        assert read(plain, path, after=event_id) == events[n + 1 :]
    # Whatever retention takes, nobody who comes back hears anything twice or misses what is left.
    order = [event for _, event, _ in events]
    for gone in range(1, 4):
        with store.engine.begin() as connection:
            connection.execute(update(artifacts).values(created_at=func.now() - func.make_interval(0, 0, 0, 9)))
            connection.execute(EXPIRE_ARTIFACTS, {"days": 8, "most": 1})
        left = [*range(order.index("artifact")), *range(order.index("artifact") + gone, len(events))]
        assert read(plain, path) == [events[n] for n in left]
        for n, (event_id, _, _) in enumerate(events):
            assert read(plain, path, after=event_id) == [events[m] for m in left if m > n]


def test_a_job_is_followed_to_its_end(plain: httpx.Client, store: Store) -> None:
    job = submit(plain)
    found: list[Event] = []
    reader = threading.Thread(target=lambda: found.extend(read(plain, job["links"]["events"])))
    reader.start()
    program = Program(store, UUID(job["id"]))
    store.begin(program.job_id)
    program.write("stdout", b"one ")
    program.write("stderr", "grö".encode()[:-1])  # cut within a character
    program.write("stderr", "ö".encode()[1:] + b"!")
    program.write("stdout", b"two")
    program.end()
    reader.join(60)
    assert not reader.is_alive()
    assert kinds(found)[:2] == ["state queued", "state running"]
    assert kinds(found)[-3:] == ["attempt", "state finished", "done"]
    assert (written(found, "stdout"), written(found, "stderr")) == ("one two", "grö!")


def test_live_output_comes_while_the_program_runs(plain: httpx.Client, store: Store) -> None:
    job = submit(plain)
    program = Program(store, UUID(job["id"]))
    store.begin(program.job_id)
    program.write("stdout", b"first\n")
    events = read(plain, job["links"]["events"], most=3)
    assert kinds(events) == ["state queued", "state running", "stdout"]
    # What is lost on the way is told from the row, without a gap and without a repetition.
    program.write("stdout", b"lost\n", lost=True)
    program.write("stdout", b"last\n")
    for noise in (b"", b"x", str(uuid4()).encode()):
        store.redis.publish(OUTPUT_CHANNEL, noise)
    store.redis.xadd(output_key(program.job_id), {"nonsense": "1"})
    program.end()
    rest = read(plain, job["links"]["events"], after=events[-1][0])
    assert written(rest, "stdout") == "lost\nlast\n"
    assert rest[0][2]["at"] == 6


@pytest.mark.parametrize("seed", range(2))
def test_a_stream_cut_a_hundred_times_equals_the_uncut_one(
    plain: httpx.Client, store: Store, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 (seeded on purpose)
    job = submit(plain)
    path = job["links"]["events"]
    program = Program(store, UUID(job["id"]))
    uncut: list[Event] = []
    reader = threading.Thread(target=lambda: uncut.extend(read(plain, path)))
    reader.start()
    resumed: list[Event] = []
    cuts = 0
    store.begin(program.job_id)
    for n in range(130):
        stream = rng.choice(["stdout", "stderr"])
        lost = n == 125  # from here on the row tells
        program.write(stream, f"{n} é{'x' * rng.randint(0, 5)}\n".encode(), lost=lost)
        # What is there for certain: two states, and the first part of what was not lost.
        if n < 2 or (not lost and rng.random() < 0.9):
            resumed += read(plain, path, after=resumed[-1][0] if resumed else None, most=1)
            cuts += 1
        if lost:
            break
    program.end(*(f"{n:02}.txt" for n in range(12)))
    reader.join(60)
    while True:
        after = resumed[-1][0] if resumed else None
        more = read(plain, path, after=after, most=rng.randint(1, 3))
        cuts += 1
        if not more:
            break
        resumed += more
    assert cuts >= 100
    assert kinds(uncut)[-15:] == ["attempt", *["artifact"] * 12, "state finished", "done"]
    for stream in ("stdout", "stderr"):
        assert written(resumed, stream) == written(uncut, stream) == program.told[stream].decode()
    steps = [(event, data) for _, event, data in uncut if event not in {"stdout", "stderr"}]
    assert [(event, data) for _, event, data in resumed if event not in {"stdout", "stderr"}] == steps


@pytest.mark.parametrize("given", ["x", "1", "1.2", "-1.0.0", "1.0.0.0", "9999999.0.0", "é", "' OR 1=1"])
def test_what_is_no_id(client: httpx.Client, given: str) -> None:
    job = submit(client)
    answer = client.get(job["links"]["events"], headers={b"Last-Event-ID": given.encode("latin-1")})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


def test_an_id_beyond_the_end(plain: httpx.Client, store: Store) -> None:
    job = submit(plain)
    store.finish(UUID(job["id"]), stdout=b"1\n")
    assert read(plain, job["links"]["events"], after="999999.0.0") == []
    beyond = read(plain, job["links"]["events"], after="2.999.999")
    assert kinds(beyond) == ["attempt", "state finished", "done"]


def test_streams_are_bounded_and_freed(
    start: Callable[..., Server], key: str, store: Store, connect: Connect
) -> None:
    url = start(max_streams="1").url
    client = connect(url)
    job = submit(client)
    path = job["links"]["events"]
    with httpx.Client(base_url=url, headers=client.headers, timeout=60) as plain:
        with plain.stream("GET", path) as first:
            lines = first.iter_lines()  # kept: the stream ends with it
            assert next(lines)
            refused = client.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        store.finish(UUID(job["id"]))
        eventually(lambda: read_status(plain, path) == 200, "the place is free again")


def read_status(client: httpx.Client, path: str) -> int:
    with client.stream("GET", path) as answer:
        return answer.status_code


def test_a_reader_that_takes_nothing_holds_up_nobody(
    plain: httpx.Client, server: Server, key: str, store: Store
) -> None:
    """It has an open stream of a job with much output, and reads no byte of it."""
    job = submit(plain)
    with plain.stream("GET", job["links"]["events"]):
        program = Program(store, UUID(job["id"]))
        store.begin(program.job_id)
        for _ in range(40):
            program.write("stdout", b"x" * 50_000)
        program.end()
        with httpx.Client(base_url=server.url, headers=plain.headers, timeout=60) as other:
            assert other.get(job["links"]["self"]).json()["state"] == "finished"
            assert len(written(read(other, job["links"]["events"]), "stdout")) == 40 * 50_000


def test_stopping_ends_streams(start: Callable[..., Server], key: str, store: Store) -> None:
    served = start()
    with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        job = submit(client)
        with client.stream("GET", job["links"]["events"]) as answer:
            lines = answer.iter_lines()
            assert next(lines)
            stopping = threading.Thread(target=served.stop)
            stopping.start()
            list(lines)  # ends
            stopping.join(30)
    assert served.process.poll() is not None
