"""Whether the service works, as answers carry it."""

from typing import Literal

from api.schemas import Answer


class Health(Answer):
    """The process answers."""

    status: Literal["ok"]


class Part(Answer):
    """Whether one thing that the service needs is there; `why_not` is for a person."""

    ready: bool
    why_not: str | None = None


class Readiness(Answer):
    """Whether jobs will be run. `progress`: whether programs that could run are taken up, and not only whether
    there is somebody to take them.

    `tiers`: those that live workers offer, and whether one is ready there. `missing_languages`: those whose
    image no live worker has.
    """

    ready: bool
    database: Part
    redis: Part
    workers: Part
    progress: Part
    tiers: dict[str, bool]
    missing_languages: list[str]
