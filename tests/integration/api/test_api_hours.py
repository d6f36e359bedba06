"""Sums by the hour: as the rows have it, whether they are kept or not, and whatever changes afterwards."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, func, insert, select, text

from api.classes import percentiles
from api.database import Database
from api.hours import HOUR, Hours, hour_of
from api.sums import Sums
from domain.ids import id_at, new_id
from domain.tables.attempt import attempts, model_calls
from domain.tables.job import jobs
from domain.tables.usage import hourly_sums
from tests.harness import eventually
from tests.integration.api.harness import Server, Store
from tests.integration.api.ledger import Ledger
from tests.visitor import Visitor

T = TypeVar("T")
NOW = hour_of(datetime.now(UTC))
SECOND = timedelta(seconds=1)


class Past(Ledger):
    """Jobs of hours that are over, and what each hour came to as we count it."""

    def __init__(self, store: Store, caller: str, database_url: str) -> None:
        super().__init__(store, caller)
        self.url = database_url

    def job(self, at: datetime, *, total_s: float = 2, runs: tuple[float, ...] = (1.0,), **values: Any) -> UUID:
        """A job of that moment that waited half a second; its last attempt has its verdict."""
        job_id = UUID(int=id_at(at).int | new_id().int & (1 << 62) - 1)
        row: dict[str, Any] = {
            **self.job_row(job_id),
            "created_at": at,
            **({"verdict": "ok"} if values.get("state", "finished") == "finished" else {}),
            **values,
        }
        if row["state"] != "queued":
            row |= {"started_at": at + SECOND / 2, "finished_at": at + total_s * SECOND}
        with self.store.engine.begin() as connection:
            connection.execute(insert(jobs), row)
            for number, wall_s in enumerate(runs, 1):
                ran = {"verdict": "ok", "wall_s": wall_s, "sandbox_start": "warm", "sandbox_start_s": 0.01}
                connection.execute(insert(attempts), {"job_id": job_id, "number": number, **ran})
        return job_id

    def call(self, job_id: UUID, cost: str | None, latency_s: float = 3, model: str = "m") -> None:
        """A question to a model."""
        row = {**self.call_row(job_id, cost), "model": model, "latency_s": latency_s}
        with self.store.engine.begin() as connection:
            connection.execute(insert(model_calls), row)

    def remove(self, job_id: UUID) -> None:
        """Delete a job."""
        with self.store.engine.begin() as connection:
            connection.execute(delete(jobs).where(jobs.c.id == job_id))

    def kept(self) -> set[datetime]:
        """The hours that are kept."""
        with self.store.engine.begin() as connection:
            return set(connection.execute(select(hourly_sums.c.hour)).scalars())

    def forget(self) -> None:
        """Keep nothing."""
        with self.store.engine.begin() as connection:
            connection.execute(delete(hourly_sums))

    def do(self, work: Callable[[Hours], Awaitable[T]]) -> T:
        """Do something with hours, as an API would."""

        async def all_of_it() -> T:
            database = Database(self.url, pool_size=2, timeout_s=30)
            try:
                return await work(Hours(database))
            finally:
                await database.close()

        return asyncio.run(all_of_it())

    def read(self, first: datetime = NOW - 30 * HOUR) -> dict[datetime, Sums]:
        """What the caller's hours came to."""
        return self.do(lambda hours: hours.read(self.caller, first))

    def words(self) -> dict[datetime, Counter[str]]:
        """The same, only the words."""
        return self.do(lambda hours: hours.words(self.caller, NOW - 30 * HOUR))

    def keep(self, hour: datetime) -> bool:
        """Keep an hour, if it can be."""
        return self.do(lambda hours: hours.keep(self.caller, hour))


@pytest.fixture
def past(store: Store, key: str, database_url: str) -> Past:
    """Alice's."""
    return Past(store, "alice", database_url)


def exactly(values: list[float], shares: tuple[float, ...]) -> list[float]:
    """Percentiles of the values themselves."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]


def test_as_the_rows_have_it_kept_or_not(past: Past, store: Store) -> None:
    dice = random.Random(7)  # noqa: S311 (no secret)
    words: dict[datetime, Counter[str]] = {}
    total: dict[datetime, list[float]] = {}
    runs: list[float] = []
    cost: Counter[str] = Counter()
    for _ in range(400):
        hour = NOW - dice.choice((0, 1, 2, 3, 5, 26)) * HOUR
        at = min(hour + dice.random() * HOUR, datetime.now(UTC))
        word = dice.choice(("ok", "ok", "error", "timeout", "cancelled", "broken"))
        state = word if word in {"cancelled", "broken"} else "finished"
        verdict = word if state == "finished" else None
        took = dice.expovariate(0.2) + 0.6
        wall = dice.expovariate(1)
        job_id = past.job(at, total_s=took, runs=(wall,), state=state, verdict=verdict)
        words.setdefault(hour, Counter())[word] += 1
        runs.append(wall)
        if verdict:
            total.setdefault(hour, []).append(took)
        if dice.random() < 0.1:
            model = dice.choice("ab")
            past.call(job_id, "0.0123456789", model=model)
            cost[model] += 1
    store.key("mallory")
    Past(store, "mallory", past.url).job(NOW - 2 * HOUR, runs=(9999.0,))
    found = past.read()
    assert {hour: sums.words for hour, sums in found.items()} == past.words() == words
    for hour, sums in found.items():
        assert sums.times["total"].total() == len(total[hour])
        shown = percentiles(sums.times["total"], (0.5,))
        assert shown is not None
        low, high = exactly(total[hour], (0.45, 0.55))
        assert low * 0.97 <= shown[0] <= high * 1.03
    whole = Sums()
    for sums in found.values():
        whole.add(sums)
    assert percentiles(whole.times["run"], (1.0, 1.0)) == pytest.approx([max(runs)] * 2, rel=0.03)
    assert percentiles(whole.times["waited"], (0.0, 1.0)) == pytest.approx([0.5, 0.5], rel=0.03)
    assert {model: (each.calls, each.cost) for model, each in whole.models.items()} == {
        model: (count, count * Decimal("0.0123456789")) for model, count in cost.items()
    }
    assert whole.models["a"].input_tokens == 100 * cost["a"]
    over = {NOW - back * HOUR for back in (2, 3, 5, 26)}
    # Who asked for hours of yesterday has them kept; the last hours are kept anyway.
    past.do(_read_and_keep(past.caller))
    assert past.kept() >= over
    assert past.kept() <= over | {NOW - HOUR}
    assert past.read() == found
    assert past.words() == words


def _read_and_keep(caller_id: UUID) -> Callable[[Hours], Awaitable[None]]:
    async def work(hours: Hours) -> None:
        await hours.read(caller_id, NOW - 30 * HOUR)
        await hours.keep_all()

    return work


HOURS_AGO = NOW - 5 * HOUR


def test_the_hour_that_goes_on_is_not_kept(past: Past) -> None:
    past.job(datetime.now(UTC))
    assert not past.keep(NOW)
    assert past.kept() == set()


def test_an_hour_is_kept_once_its_jobs_have_ended(past: Past, store: Store) -> None:
    past.job(HOURS_AGO)
    late = past.job(HOURS_AGO + SECOND, runs=(), state="queued")
    assert not past.keep(HOURS_AGO)
    assert past.read()[HOURS_AGO].words == Counter(ok=1, queued=1)
    store.finish(late, verdict="timeout")
    assert past.read()[HOURS_AGO].words == Counter(ok=1, timeout=1)
    assert past.keep(HOURS_AGO)
    assert not past.keep(HOURS_AGO)
    assert past.read()[HOURS_AGO].words == Counter(ok=1, timeout=1)


def test_a_model_whose_price_is_not_known(past: Past) -> None:
    past.call(past.job(HOURS_AGO), None)
    for _ in range(2):
        asked = past.read()[HOURS_AGO].models["m"]
        assert (asked.calls, asked.cost) == (1, None)
        past.keep(HOURS_AGO)
    assert past.kept() == {HOURS_AGO}


@pytest.mark.parametrize("change", ["deleted", "called late", "come late"])
def test_what_changes_afterwards_is_shown(past: Past, client: httpx.Client, change: str) -> None:
    first, second = past.job(HOURS_AGO), past.job(HOURS_AGO + SECOND, verdict="error")
    past.job(HOURS_AGO - HOUR)
    assert past.keep(HOURS_AGO)
    assert past.keep(HOURS_AGO - HOUR)
    match change:
        case "deleted":
            assert client.delete(f"/v1/jobs/{second}").status_code == 204
        case "called late":
            past.call(first, "0.5")
        case "come late":
            past.job(HOURS_AGO + 2 * SECOND, verdict="timeout")
    assert past.kept() == {HOURS_AGO - HOUR}
    shown = past.read()
    past.forget()
    assert past.read() == shown
    words = {"deleted": Counter(ok=1), "called late": Counter(ok=1, error=1)}
    assert shown[HOURS_AGO].words == words.get(change, Counter(ok=1, error=1, timeout=1))
    assert bool(shown[HOURS_AGO].models) == (change == "called late")


def test_new_jobs_forget_nothing(past: Past) -> None:
    past.job(NOW - 2 * HOUR)
    assert past.keep(NOW - 2 * HOUR)
    past.call(past.job(datetime.now(UTC)), "1")
    past.remove(past.job(datetime.now(UTC)))
    assert past.kept() == {NOW - 2 * HOUR}


def _waits(store: Store) -> bool:
    """Whether somebody waits for the lock of an hour."""
    found = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1149 AND NOT granted")
    with store.engine.connect() as connection:
        return bool(connection.execute(found).scalar())


def test_what_is_being_deleted_is_waited_for(past: Past, store: Store) -> None:
    past.job(HOURS_AGO)
    doomed = past.job(HOURS_AGO + SECOND, verdict="error")
    with ThreadPoolExecutor(1) as pool, store.engine.connect() as changer:
        changer.execute(delete(jobs).where(jobs.c.id == doomed))
        keeping = pool.submit(past.keep, HOURS_AGO)
        eventually(lambda: _waits(store), "it waits")
        changer.commit()
        assert keeping.result(timeout=60)
    assert past.read()[HOURS_AGO].words == Counter(ok=1)
    assert past.kept() == {HOURS_AGO}


def test_who_deletes_waits_for_what_is_being_kept(past: Past, store: Store) -> None:
    past.job(HOURS_AGO)
    doomed = past.job(HOURS_AGO + SECOND, verdict="error")
    with ThreadPoolExecutor(1) as pool, store.engine.connect() as keeper:
        keeper.execute(select(func.hourly_sums_lock(past.caller, HOURS_AGO, True)))
        sums = Sums(words=Counter(ok=1, error=1)).as_json()
        keeper.execute(insert(hourly_sums), {"caller_id": past.caller, "hour": HOURS_AGO, "sums": sums})
        removing = pool.submit(past.remove, doomed)
        eventually(lambda: _waits(store), "it waits")
        keeper.commit()
        removing.result(timeout=60)
    assert past.kept() == set()
    assert past.read()[HOURS_AGO].words == Counter(ok=1)


def test_hours_are_kept_by_themselves_and_not_for_ever(past: Past, store: Store) -> None:
    past.job(NOW - 2 * HOUR)
    old = NOW - timedelta(days=40)
    with store.engine.begin() as connection:
        row = {"caller_id": past.caller, "hour": old, "sums": Sums().as_json()}
        connection.execute(insert(hourly_sums), row)

    async def work(hours: Hours) -> None:
        task = asyncio.create_task(hours.run())
        await asyncio.to_thread(eventually, lambda: past.kept() == {NOW - 2 * HOUR}, "it is kept")
        task.cancel()

    past.do(work)


def test_the_page_shows_them(past: Past, server: Server, store: Store) -> None:
    for verdict in ("ok", "ok", "timeout"):
        past.job(HOURS_AGO, total_s=8, verdict=verdict)
    past.call(past.job(NOW - 26 * HOUR), "0.25", model="opus-4")
    assert past.keep(HOURS_AGO)
    key = store.key("alice")
    with Visitor(server.url) as visitor:
        visitor.sign_in(key)
        day, month = visitor.get("/numbers").text, visitor.get("/numbers?window=month").text
        assert "Last day: 3" in visitor.get("/runs").text
    assert ("opus-4" in day, "opus-4" in month) == (False, True)
    assert "$0.25" in month
    for page, count in ((day, 3), (month, 4)):
        assert f'<th scope="row">whole</th><td class="number">{count}</td>' in page
