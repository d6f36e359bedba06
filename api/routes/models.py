"""Which models there are, what they cost, and which of them somebody serves at the moment."""

import asyncio
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import json_answer
from api.auth import Guarded
from api.offer_schemas import ModelList
from api.openapi import operation
from api.problems import Kind
from api.queries import query_of
from api.services import services_of
from domain.catalogue import Catalogue, Model, Preset
from domain.quotas import Scope
from domain.worker_statements import LIVE_WORKERS

router = APIRouter(prefix="/v1", route_class=Guarded)


@router.get(
    "/models",
    **operation(
        "List models",
        {200: (ModelList, "The models, those that a live worker serves first, and the presets.")},
        scope=Scope.READ,
        problems=(Kind.INVALID, Kind.UNAVAILABLE),
    ),
)
async def models(request: Request) -> Response:
    """Lists the models."""
    query_of(request)
    services = services_of(request)
    workers = await services.database.all(LIVE_WORKERS, {})
    offers = _offers(worker.facts for worker in workers if worker.ready)
    catalogue = services.catalogue
    if any(catalogue.find(name) is None for name in offers):
        # Prices of models that are not listed are looked up in data that take long to import.
        catalogue = await asyncio.to_thread(catalogue.extended, offers)
    cards = [_card(model, offers.get(model.name, [])) for model in catalogue.models.values()]
    return json_answer(
        {
            "models": sorted(cards, key=lambda card: not card["available"]),
            "presets": [_preset(preset, catalogue) for preset in catalogue.presets.values()],
        },
    )


def _offers(facts: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What workers say of their gateways, by model."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for each in facts:
        for gateway in each.get("gateways") or ():
            for model in gateway["models"]:
                # Workers that share a configuration say the same; one entry is enough.
                found.setdefault(model, {})[gateway["name"]] = {
                    "name": gateway["name"],
                    "dialect": gateway["dialect"],
                    "price": (gateway.get("prices") or {}).get(model),
                }
    return {model: list(gateways.values()) for model, gateways in found.items()}


def _card(model: Model, gateways: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": model.name,
        "title": model.title,
        "provider": model.provider or None,
        "aliases": list(model.aliases),
        "available": bool(gateways),
        "gateways": gateways,
        "price": None if model.price is None else model.price.as_dict(),
        "context_tokens": model.context_tokens,
        "output_tokens": model.output_tokens,
        "capabilities": sorted(model.capabilities),
        "knowledge_until": model.knowledge_until,
        "accuracy": model.accuracy,
        "accuracy_source": model.accuracy_source or None,
        "roles": list(model.roles),
        "suits": list(model.suits),
        "limits": [
            {"name": each.name, "rpm": each.rpm, "tpm": each.tpm, "burst": each.burst} for each in model.buckets
        ],
    }


def _preset(preset: Preset, catalogue: Catalogue) -> dict[str, Any]:
    taken = preset.settings_for(catalogue.models[preset.model])
    return {
        "name": preset.name,
        "title": preset.title,
        "model": preset.model,
        "temperature": taken.get("temperature"),
        "top_p": taken.get("top_p"),
        "max_tokens": taken["max_tokens"],
        "latency_ms": preset.latency_ms,
    }
