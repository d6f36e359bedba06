"""Entry point of a worker: `python -m worker.main`. Wires the parts and hands over to Celery."""

import fcntl
import gc
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

from celery import Celery, signals

from domain.bell import ADVANCE, SANDBOX_QUEUE
from domain.limits import load_languages, load_profiles
from domain.logs import configure
from worker import housekeeping
from worker.broker import Bell, celery_app
from worker.cancels import Cancels
from worker.leases import Leases
from worker.pipeline import Images, Pipeline
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


def _tags() -> dict[str, str]:
    """The images as this version of the code wants them."""
    return {language.image: images.expected_tag(language.image) for language in load_languages().values()}


def run(settings: WorkerSettings) -> int:
    """Work until told to stop; the exit status."""
    with ExitStack() as closing:
        closing.enter_context(only_one(settings))
        app = celery_app(settings.redis_url)
        store = Store(settings.database_url, threads=settings.jobs)
        closing.callback(store.close)
        bell = Bell(app, settings.redis_url)
        closing.callback(bell.close)
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
        found = Images(engine, _tags())
        for language in languages.values():
            # The default profile's cells are kept from the start, the others' from their first job.
            pool.shelf(
                found.tags[language.image],
                profiles[language.profiles[0]],
                images.mentions(language.image),
            )
        pipeline = Pipeline(
            store=store,
            leases=leases,
            pool=pool,
            bell=bell,
            images=found,
            profiles=profiles,
            languages=languages,
        )
        reporter = housekeeping.Reporter(
            store=store,
            bell=bell,
            pool=pool,
            engine=engine,
            pipeline=pipeline,
            leases=leases,
            jobs=settings.jobs,
        )
        guard = housekeeping.Guard(engine=engine, pool=pool, image=found.tags["python"])
        store.warm_up(settings.jobs)
        leases.open()
        closing.callback(leases.close)
        closing.callback(store.forget, settings.instance)  # once nobody reports any more
        for every in (
            housekeeping.Every(housekeeping.GUARD_S, "guard", guard.step),
            housekeeping.Every(housekeeping.SWEEP_S, "sweeper", lambda: housekeeping.sweep(store, bell)),
            housekeeping.Every(housekeeping.REPORT_S, "reporter", reporter.step),
            housekeeping.Every(
                housekeeping.FORGET_S,
                "forgetter",
                lambda: housekeeping.forget(store, settings.idempotency_hours),
            ),
        ):
            every.open()
            closing.callback(every.close)
        cancels = Cancels(bell, leases)
        cancels.open()
        closing.callback(cancels.close)
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
