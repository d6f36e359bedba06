"""Entry point of the process that sends webhooks: `python -m worker.hooks.main`."""

import asyncio
import logging
import signal
import sys

from domain.logs import configure
from domain.sealing import sealer_of
from telemetry.scrape import serve
from telemetry.settings import load_telemetry
from worker import faults
from worker.hooks import meters
from worker.hooks.delivering import Delivering
from worker.hooks.outbox import Outbox
from worker.hooks.sender import Sender, System
from worker.hooks.settings import HookSettings

log = logging.getLogger(__name__)


async def run(settings: HookSettings) -> None:
    """Send until told to stop; messages under way end first."""
    faults.arm(settings.fault_fuses)
    key = settings.webhook_key
    sealer = sealer_of(None if key is None else key.get_secret_value(), settings.webhook_key_file)
    if sealer is None:
        raise ValueError("set RETORT_WEBHOOK_KEY_FILE to the file with the key that the API has")
    system = System()
    sender = Sender(
        settings.reach, http=settings.webhook_http, timeout_s=settings.webhook_timeout_s, resolve=system
    )
    outbox = Outbox(settings.database_url)
    delivering = Delivering(outbox, sender, sealer, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, delivering.stop)
    telemetry = load_telemetry()
    served = None
    if telemetry.metrics_port is not None:
        served = serve(meters.REGISTRY, telemetry.metrics_host, telemetry.metrics_port)
    log.info("webhooks are sent")
    try:
        await delivering.run()
    finally:
        if served is not None:
            served.close()
        system.close()
        outbox.close()


def main() -> None:
    """Read the settings and run."""
    settings = HookSettings()  # type: ignore[call-arg]  # from the environment
    configure(settings.log_level, "hooks")
    try:
        asyncio.run(run(settings))
    except ValueError as error:
        sys.exit(f"cannot start with these settings: {error}")


if __name__ == "__main__":
    main()
