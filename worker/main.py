"""Entry point of a worker: `python -m worker.main`. Wires the parts and hands over to Celery."""

import fcntl
import gc
import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from uuid import UUID

from celery import Celery, signals

from domain.bell import ADVANCE, SANDBOX_QUEUE
from domain.languages import Language, load_languages
from domain.limits import Profile, load_profiles
from domain.logs import configure
from storage.store import Storage, default_url
from worker import housekeeping
from worker.broker import Bell, celery_app
from worker.languages import LOOK_S, NotOffered, Offers
from worker.leases import Leases
from worker.pipeline import Pipeline
from worker.retention import Retention
from worker.sandbox import images
from worker.sandbox.engine import Engine
from worker.sandbox.pool import Pool, PoolSettings
from worker.settings import WorkerSettings
from worker.store import Store

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
    """Have cells of the common languages kept from the start: of each its first image, for the first profile.

    Cells of all else are kept from their first job.
    """
    for name in settings.warm:
        if name not in languages:
            raise SystemExit(f"RETORT_WARM_LANGUAGES names {name!r}; there are {', '.join(languages)}")
        language = languages[name]
        try:
            _, tag = offers.choose(name, language.profiles[0])
        except NotOffered:
            continue  # not built, or the engine is away; its first job begins
        pool.shelf(tag, profiles[language.profiles[0]])


def run(settings: WorkerSettings) -> int:
    """Work until told to stop; the exit status."""
    with ExitStack() as closing:
        closing.enter_context(only_one(settings))
        app = celery_app(settings.redis_url)
        store = Store(settings.database_url, threads=settings.jobs)
        closing.callback(store.close)
        bell = Bell(app, settings.redis_url)
        closing.callback(bell.close)
        storage = Storage(settings.storage_url or default_url(settings.state_dir))
        engine = Engine()
        pool = Pool(
            engine,
            PoolSettings(
                instance=settings.instance,
                runtime=settings.runtime,
                least=settings.warm_least,
                most=settings.warm_most,
                cells=settings.jobs + settings.warm_most + 2,
            ),
        )
        closing.callback(pool.close)
        pool.open()
        leases = Leases(store)
        profiles = load_profiles(settings.profiles)
        languages = load_languages()
        offers = Offers(engine, languages)
        pool.mentions.update({tag: images.mentions(name) for name, tag in offers.tags.items()})
        _keep_warm(settings, pool, offers, languages, profiles)
        pipeline = Pipeline(
            store=store,
            leases=leases,
            pool=pool,
            bell=bell,
            offers=offers,
            profiles=profiles,
            storage=storage,
        )
        reporter = housekeeping.Reporter(
            store=store,
            bell=bell,
            pool=pool,
            engine=engine,
            pipeline=pipeline,
            leases=leases,
            offers=offers,
            jobs=settings.jobs,
        )
        retention = Retention(
            store, storage, files_days=settings.files_days, artifacts_days=settings.artifacts_days
        )
        guard = housekeeping.Guard(engine=engine, pool=pool, image=offers.tags["python"])
        store.warm_up(settings.jobs)
        leases.open()
        closing.callback(leases.close)
        closing.callback(store.forget, settings.instance)  # once nobody reports any more
        for every in (
            housekeeping.Every(housekeeping.GUARD_S, "guard", guard.step),
            housekeeping.Every(housekeeping.SWEEP_S, "sweeper", lambda: housekeeping.sweep(store, bell)),
            housekeeping.Every(LOOK_S, "images", offers.look),
            housekeeping.Every(housekeeping.RETAIN_S, "retention", retention.step),
            housekeeping.Every(housekeeping.REPORT_S, "reporter", reporter.step),
        ):
            every.open()
            closing.callback(every.close)
        return serve(app, pipeline, settings)


def serve(app: Celery, pipeline: Pipeline, settings: WorkerSettings) -> int:
    """Take messages until SIGTERM; running jobs end first."""

    def advance(job_id: str) -> None:
        pipeline.advance(UUID(job_id))

    app.task(advance, name=ADVANCE)

    def drain(**_: object) -> None:
        pipeline.draining = True

    signals.worker_shutting_down.connect(drain, weak=False)
    worker = app.Worker(
        pool="threads",
        concurrency=settings.jobs,
        queues=[SANDBOX_QUEUE],
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
    worker.start()
    return int(worker.exitcode or 0)


def _leave(*_: object) -> None:
    raise SystemExit(0)


def main() -> None:
    """Read the settings and run."""
    # Until Celery minds the signal: whoever is told to stop while it starts removes its containers, too.
    signal.signal(signal.SIGTERM, _leave)
    settings = WorkerSettings()  # type: ignore[call-arg]  # from the environment
    configure(settings.log_level)
    for name in ("celery.app.trace", "celery.worker.strategy"):  # two lines for every job say nothing of ours
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(run(settings))


if __name__ == "__main__":
    main()
