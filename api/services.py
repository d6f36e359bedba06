"""Everything that handlers use, made once by the factory and handed on."""

from dataclasses import dataclass

import redis.asyncio
from starlette.requests import Request

from api.auth import Keys
from api.bell import Bell
from api.database import Database
from api.intake import Intake
from api.settings import Settings
from api.waiting import Waiting
from domain.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one API process."""

    settings: Settings
    database: Database
    redis: "redis.asyncio.Redis"
    keys: Keys
    intake: Intake
    catalogue: Catalogue
    bell: Bell
    waiting: Waiting


def services_of(request: Request) -> Services:
    """The services of the application that serves this request."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 (the factory put it there)
    return services
