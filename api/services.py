"""Everything that handlers use, made once by the factory and handed on."""

from dataclasses import dataclass

import redis.asyncio
from starlette.requests import Request

from api.auth import Keys
from api.bell import Bell
from api.database import Database
from api.hours import Hours
from api.intake import Intake
from api.metering import Metering
from api.meters import Meters
from api.offered import Offered
from api.pulse import Pulse
from api.quotas import Room, Seconds
from api.rates import Rates
from api.serving import Serving
from api.settings import Settings
from api.teller import Teller
from api.waiting import Waiting
from domain.catalogue import Catalogue
from domain.sealing import Sealer
from storage.store import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one API process."""

    settings: Settings
    database: Database
    redis: "redis.asyncio.Redis"
    keys: Keys
    intake: Intake
    offered: Offered
    catalogue: Catalogue
    bell: Bell
    waiting: Waiting
    storage: Storage
    teller: Teller
    room: Room
    seconds: Seconds
    rates: Rates
    serving: Serving
    meters: Meters
    metering: Metering
    hours: Hours
    pulse: Pulse
    sealer: Sealer | None  # None: no key for secrets is configured


def services_of(request: Request) -> Services:
    """The services of the application that serves this request."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 (the factory put it there)
    return services
