"""Entry point of a worker: `python -m worker.main`. Wires the parts and hands over to Celery."""

import fcntl
import gc
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery, signals

from domain.bell import ADVANCE
from domain.languages import Language, load_languages
from domain.limits import Profile, load_profiles
from domain.logs import configure
from storage.store import Storage, default_url
from telemetry import scrape, traces
from telemetry.settings import load_telemetry
from worker import asking, faults, heap, housekeeping, meters, watched
from worker.advance import Steps
from worker.broker import Bell, celery_app
from worker.cancels import Cancels
from worker.generating import Generating
from worker.judging import Judging
from worker.languages import LOOK_S, NotKnown, NotOffered, Offers
from worker.leases import Leases
from worker.leaving import Leaving
from worker.live import Live
from worker.memory import Memory
from worker.model.rules import RefineRules, load_refine_rules
from worker.pipeline import Pipeline
from worker.retention import Retention
from worker.sandbox import images
from worker.sandbox import watched as watched_pool
from worker.sandbox.engine import Engine, EngineError
from worker.sandbox.lending import PoolSettings
from worker.sandbox.pool import Pool
from worker.settings import WorkerSettings
from worker.store import Store
from worker.task_store import TaskStore

log = logging.getLogger(__name__)


@contextmanager
def only_one(settings: WorkerSettings) -> Iterator[None]:
    """Hold the instance's lock: two processes of one name would remove each other's containers."""
    path = settings.state_dir / f"retort-worker-{settings.instance}.lock"
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"a worker named {settings.instance!r} runs here already; "
                "one process serves a host, or set RETORT_INSTANCE to another name",
            ) from None
        yield


def _keep_warm(
    settings: WorkerSettings,
    pool: Pool,
    offers: Offers,
    languages: Mapping[str, Language],
    profiles: Mapping[str, Profile],
) -> None:
    """Have cells of the common languages kept: of each its first image once it is built, for the first profile.

    Cells of all else are kept from their first job.
    """
    for name in settings.warm:
        if name not in languages:
            raise SystemExit(f"RETORT_WARM_LANGUAGES names {name!r}; there are {', '.join(languages)}")
        language = languages[name]
        try:
            _, tag = offers.choose(name, language.profiles[0])
        except (NotOffered, NotKnown):
            continue  # not built yet, or the engine is away
        pool.shelf(tag, profiles[language.profiles[0]], runtime=settings.tiers[0])


def _memory_mb(engine: Engine) -> int:
    """Three quarters of the memory of the engine's host, which need not be ours; 0 if it does not tell."""
    try:
        return int(engine.info().get("MemTotal") or 0) * 3 // 4 >> 20
    except EngineError as e:
        log.warning("no ceiling for the memory of the sandboxes: %s", e)
        return 0


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of step as this worker does it: why it cannot, what it says of itself, what it does beside."""

    why_not: Callable[[], str | None]
    facts: Callable[[], dict[str, Any]]
    every: tuple[housekeeping.Every, ...] = ()


class Wiring:
    """The parts that every worker has."""

    def __init__(self, settings: WorkerSettings, closing: ExitStack) -> None:
        self.settings = settings
        self.closing = closing
        self.app = celery_app(settings.redis_url, batch_most=settings.batch_slots)
        self.store = Store(
            settings.database_url,
            threads=settings.slots,
            share=settings.serves == "model",
            lease_s=settings.lease_s,
        )
        closing.callback(self.store.close)
        self.tasks = TaskStore(self.store)
        self.bell = Bell(self.app, settings.redis_url)
        closing.callback(self.bell.close)
        self.leases = Leases(self.store)
        self.rules: RefineRules = load_refine_rules(settings.refine)

    def running(self) -> tuple[Pipeline, Part]:
        """What runs programs."""
        settings = self.settings
        storage = Storage(settings.storage_url or default_url(settings.state_dir))
        engine = Engine()
        pool = Pool(
            engine,
            PoolSettings(
                instance=settings.instance,
                runtimes=settings.tiers,
                least=settings.warm_least,
                most=settings.warm_most,
                # What jobs are in, what one busy shelf keeps, what every other keeps, and two being removed.
                cells=settings.jobs + settings.warm_most + settings.warm_least * len(settings.warm) + 2,
                memory_mb=settings.sandbox_memory_mb or _memory_mb(engine),
            ),
        )
        self.closing.callback(pool.close)
        pool.open()
        meters.REGISTRY.register(scrape.Watched(lambda: watched_pool.of_pool(pool)))
        live = Live(self.bell)
        live.open()
        self.closing.callback(live.close)
        profiles = load_profiles(settings.profiles)
        languages = load_languages()
        offers = Offers(engine, languages)
        pool.shelves.mentions.update({tag: images.mentions(name) for name, tag in offers.tags.items()})

        def look() -> None:
            offers.look()
            _keep_warm(settings, pool, offers, languages, profiles)

        look()
        pipeline = Pipeline(
            store=self.store,
            pool=pool,
            bell=self.bell,
            live=live,
            offers=offers,
            profiles=profiles,
            judging=Judging(self.tasks, self.bell, self.rules, profiles),
            memory=Memory(self.tasks),
            storage=storage,
        )
        retention = Retention(
            self.store,
            storage,
            files_days=settings.files_days,
            artifacts_days=settings.artifacts_days,
            jobs_days=settings.jobs_days,
        )
        guard = housekeeping.Guard(engine=engine, pool=pool, image=offers.tags["python"])

        def why_not() -> str | None:
            try:
                engine.ping()
            except EngineError as e:
                return str(e)
            return pool.why_not

        return pipeline, Part(
            why_not,
            lambda: {
                "runtimes": list(pool.settings.runtimes),
                "refusals": dict(pool.refusals),
                "pool": pool.stats.as_dict(),
                "images": offers.facts(),
            },
            (
                housekeeping.Every(housekeeping.GUARD_S, "guard", guard.step),
                housekeeping.Every(housekeeping.RETAIN_S, "retention", retention.step),
                housekeeping.Every(LOOK_S, "images", look),
            ),
        )

    def generating(self) -> tuple[Generating, Part] | None:
        """What asks models; None where no gateway is configured."""
        opened = asking.open_models(self.settings.redis_url, self.tasks, self.closing)
        if opened is None:
            return None
        meters.REGISTRY.register(scrape.Watched(lambda: watched.of_models(opened.models)))
        generating = Generating(
            tasks=self.tasks,
            bell=self.bell,
            models=opened.models,
            rules=self.rules,
            worker=self.settings.instance,
            caller_budget_usd=self.settings.caller_budget_usd,
            caller_tokens_per_minute=self.settings.caller_tokens_per_minute,
        )
        return generating, Part(
            lambda: None,
            lambda: {"gateways": opened.gateways.facts(), "calls": opened.models.stats().as_dict()},
        )


def _tell(settings: WorkerSettings, closing: ExitStack, ours: scrape.Watched) -> dict[str, str]:
    """Open what tells of this process, where the settings say so; what to report of it."""
    telemetry = load_telemetry()
    traces.open_traces("retort-worker", settings.instance, telemetry)
    closing.callback(traces.close_traces)
    meters.REGISTRY.register(ours)
    if telemetry.metrics_port is None:
        return {}
    served = scrape.serve(meters.REGISTRY, telemetry.metrics_host, telemetry.metrics_port)
    closing.callback(served.close)
    return {"metrics": served.address}


def run(settings: WorkerSettings) -> int:
    """Work until told to stop; the exit status."""
    with ExitStack() as closing:
        closing.enter_context(only_one(settings))
        wiring = Wiring(settings, closing)
        store, bell = wiring.store, wiring.bell
        running = wiring.running() if "sandbox" in settings.serves else None
        generating = wiring.generating() if "model" in settings.serves else None
        parts = [part for found in (running, generating) if found is not None for part in found[1:]]
        if not parts:
            raise SystemExit(f"nothing to serve: no model gateway is configured. {asking.WHAT_TO_SET}")
        steps = Steps(
            bell=wiring.bell,
            store=store,
            leases=wiring.leases,
            worker=settings.instance,
            running=None if running is None else running[0],
            generating=None if generating is None else generating[0],
        )

        def why_not() -> str | None:
            return next((why for part in parts if (why := part.why_not())), None)

        told: dict[str, str] = {}
        reporter = housekeeping.Reporter(
            store=store,
            bell=bell,
            steps=steps,
            leases=wiring.leases,
            instance=settings.instance,
            jobs=settings.slots,
            batch_jobs=settings.batch_slots,
            why_not=why_not,
            facts=lambda: told | {name: value for part in parts for name, value in part.facts().items()},
            deaf_s=settings.deaf_s,
            beat=settings.ready_file.touch,
        )
        ours = scrape.Watched(
            lambda: watched.of_worker(settings.slots, steps, wiring.leases, store, lambda: reporter.why_not)
        )
        told |= _tell(settings, closing, ours)
        store.connections.warm_up()
        wiring.leases.open()
        closing.callback(wiring.leases.close)
        closing.callback(store.forget, settings.instance)  # once nobody reports any more
        closing.callback(settings.ready_file.unlink, missing_ok=True)
        for every in (
            *(each for part in parts for each in part.every),
            housekeeping.Every(housekeeping.SWEEP_S, "sweeper", lambda: housekeeping.sweep(store, bell)),
            housekeeping.Every(housekeeping.STRANDED_S, "tiers", housekeeping.Stranded(store, bell).step),
            housekeeping.Every(housekeeping.REPORT_S, "reporter", reporter.step),
            housekeeping.Every(
                housekeeping.FORGET_S,
                "forgetter",
                lambda: housekeeping.forget(store, settings.idempotency_hours),
            ),
        ):
            every.open()
            closing.callback(every.close)
        cancels = Cancels(wiring.bell, wiring.leases)
        cancels.open()
        closing.callback(cancels.close)
        leaving = Leaving(steps, wiring.leases, closing.close)
        return serve(wiring.app, steps, leaving, settings, threads=settings.slots)


def serve(app: Celery, steps: Steps, leaving: Leaving, settings: WorkerSettings, *, threads: int) -> int:
    """Take messages until SIGTERM; running jobs end first, unless it comes again."""

    def advance(job_id: str) -> None:
        steps.advance(UUID(job_id))

    app.task(advance, name=ADVANCE)
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "open_queues": steps.open_queues}

    def ready(**_: object) -> None:
        # Celery's own way would wait for the threads.
        signal.signal(signal.SIGQUIT, lambda *_: leaving.told(how="Cold"))

    signals.worker_shutting_down.connect(leaving.told, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    worker = app.Worker(
        pool="threads",
        concurrency=threads,
        queues=list(steps.queues),
        hostname=f"retort@{settings.instance}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel=settings.log_level,
    )
    # What is loaded by now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        worker.start()
    finally:
        leaving.wait()
    return int(worker.exitcode or 0)


def _leave(*_: object) -> None:
    raise SystemExit(0)


def main() -> None:
    """Read the settings and run."""
    heap.keep_little()
    # Until Celery minds the signal: whoever is told to stop while it starts removes its containers, too.
    signal.signal(signal.SIGTERM, _leave)
    settings = WorkerSettings()  # type: ignore[call-arg]  # from the environment
    configure(settings.log_level, "worker", settings.instance)
    faults.arm(settings.fault_fuses)
    for name in ("celery.app.trace", "celery.worker.strategy"):  # two lines for every job say nothing of ours
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(run(settings))


if __name__ == "__main__":
    main()
