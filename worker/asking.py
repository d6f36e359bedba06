"""Opens the models that this worker may ask, if any gateway is configured."""

from contextlib import ExitStack
from dataclasses import dataclass

from domain.catalogue import load_catalogue
from worker.model.gateways import Gateways, GatewaySettings, load_gateways
from worker.model.keys import GatewayError
from worker.model.port import Models
from worker.task_store import TaskStore

#: For whoever wonders why tasks are refused.
WHAT_TO_SET = (
    "Set RETORT_GATEWAY_URL and RETORT_GATEWAY_KEY (or RETORT_GATEWAY_KEY_FILE), or RETORT_GATEWAYS to "
    "a file that lists several gateways."
)


@dataclass(frozen=True, slots=True)
class Opened:
    """The models, and the gateways behind them."""

    models: Models
    gateways: Gateways


def open_models(redis_url: str, tasks: TaskStore, closing: ExitStack) -> Opened | None:
    """The models; None where no gateway is configured. A gateway that is configured wrongly ends the worker."""
    try:
        settings = GatewaySettings()
        gateways = load_gateways(settings, load_catalogue(settings.catalogue))
    except GatewayError as e:
        raise SystemExit(f"cannot start with these gateways: {e}") from None
    if not gateways:
        return None
    models = closing.enter_context(Models(gateways, redis_url, cache=tasks))
    return Opened(models, gateways)
