"""`python -m worker.model.check`: ask each configured model the smallest question, and say what works.

Runs where the keys are, prints one JSON object per line, and exits with 0 if every model answers, 1 if one does
not, 2 if no gateway is configured or a setting is wrong. `retort models check` shows the lines to a person.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from domain.catalogue import CatalogueError, load_catalogue
from worker.model.client import GatewayClient
from worker.model.gateways import Gateway, Gateways, GatewaySettings, load_gateways
from worker.model.keys import GatewayError
from worker.model.types import Message, ModelCall, ModelError

#: Seconds for one model to answer.
DEADLINE_S = 30.0

#: Prices and what routing goes by are looked at again each quarter.
REVIEW_AFTER = timedelta(days=92)

#: Questions under way at once, of all gateways together.
AT_ONCE = 8

QUESTION = "Reply with the word ok."

NO_GATEWAY = "no gateway is configured; set RETORT_GATEWAY_URL and RETORT_GATEWAY_KEY, or RETORT_GATEWAYS"


def overdue(gateways: Gateways, today: date) -> str | None:
    """A reminder, once figures of a model that is served are older than a quarter."""
    found: dict[date, set[str]] = {}
    for gateway in gateways.all:
        for model in gateway.models:
            price = gateways.catalogue.price(model, gateway.prices)
            if price is not None and price.checked is not None and today - price.checked > REVIEW_AFTER:
                found.setdefault(price.checked, set()).add(model)
    if not found:
        return None
    names = sorted(set().union(*found.values()))
    return (
        f"review the prices and accuracy figures of {', '.join(names)}: they were last compared with their "
        f"source on {min(found)}, and are to be each quarter; RETORT_CATALOGUE names a catalogue of your own"
    )


async def check(gateways: Gateways) -> AsyncIterator[dict[str, Any]]:
    """What became of the question at each gateway and model, as the answers come."""
    places = asyncio.Semaphore(AT_ONCE)
    async with GatewayClient() as client:

        async def one(gateway: Gateway, model: str) -> dict[str, Any]:
            async with places:
                return await _ask(client, gateways, gateway, model)

        asked = [one(gateway, model) for gateway in gateways.all for model in gateway.models]
        for answered in asyncio.as_completed(asked):
            yield await answered


async def _ask(client: GatewayClient, gateways: Gateways, gateway: Gateway, model: str) -> dict[str, Any]:
    request_id = str(uuid4())
    call = ModelCall(model, (Message("user", QUESTION),), temperature=0, max_tokens=16)
    found: dict[str, Any] = {"gateway": gateway.name, "model": model, "request_id": request_id}
    try:
        answer = await client.ask(gateway, call, request_id=request_id, deadline_s=DEADLINE_S)
    except ModelError as error:
        return {
            **found,
            "works": False,
            "kind": error.kind.value,
            "detail": str(error),
            "hints": list(error.hints),
            "latency_s": round(error.latency_s, 3),
        }
    cost = gateways.catalogue.cost(model, answer.usage, gateway.prices)
    return {
        **found,
        "works": True,
        "version": answer.model_version,
        "scripted": answer.scripted,
        "latency_s": round(answer.latency_s, 3),
        "tokens": answer.usage.total,
        "cost_usd": None if cost is None else _plain(cost.usd),
    }


def _plain(value: Decimal) -> str:
    return format(value, "f")


async def _run(gateways: Gateways) -> int:
    worst = 0
    async for found in check(gateways):
        print(json.dumps(found), flush=True)
        worst = max(worst, int(not found["works"]))
    return worst


def main() -> int:
    """Read the settings and ask; the exit status."""
    settings = GatewaySettings()
    try:
        gateways = load_gateways(settings, load_catalogue(settings.catalogue))
    except (GatewayError, CatalogueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not gateways:
        print(NO_GATEWAY, file=sys.stderr)
        return 2
    if reminder := overdue(gateways, datetime.now(UTC).date()):
        print(reminder, file=sys.stderr)
    return asyncio.run(_run(gateways))


if __name__ == "__main__":
    sys.exit(main())
