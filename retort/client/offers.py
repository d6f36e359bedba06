"""What a service offers and how it does, as types; and callers and keys. Like `retort.client.results`."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import Field

from retort.client.results import Answer, Part


class File(Answer):
    """An uploaded file."""

    id: str
    name: str
    size: int
    sha256: str = ""
    created_at: datetime | None = None


class Price(Part):
    """Per million tokens."""

    input: Decimal
    output: Decimal
    currency: str = "USD"


class Model(Part):
    """A model; `available` says whether a live worker can ask it. A price of None is not known, not nothing."""

    name: str
    title: str = ""
    provider: str | None = None
    aliases: tuple[str, ...] = ()
    available: bool = False
    gateways: tuple[dict[str, Any], ...] = ()
    price: Price | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    accuracy: float | None = None
    roles: tuple[str, ...] = ()


class Preset(Part):
    """Settings for one kind of task."""

    name: str
    title: str = ""
    model: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


class Models(Answer):
    """The models, and the presets."""

    models: tuple[Model, ...]
    presets: tuple[Preset, ...] = ()


class LanguageVersion(Part):
    """A version of a language that some worker can run."""

    name: str
    version: str = ""
    image: str = ""
    profiles: tuple[str, ...] = ()
    packages: dict[str, str] = Field(default_factory=dict)


class Language(Part):
    """A language. Without `versions` no worker can run it now."""

    name: str
    title: str = ""
    compiled: bool = False
    profiles: tuple[str, ...] = ()
    versions: tuple[LanguageVersion, ...] = ()


class Languages(Answer):
    """The languages."""

    languages: tuple[Language, ...]


class Profile(Part):
    """A named set of limits: of each the `least`, the `default` and the `most`."""

    name: str
    title: str = ""
    limits: dict[str, dict[str, Any]] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, Any] = Field(default_factory=dict)


class Profiles(Answer):
    """The profiles."""

    profiles: tuple[Profile, ...]


class JobStats(Part):
    """What jobs came to; None where there is nothing to tell it from. docs/api.md has all fields."""

    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    success_rate: float | None = None
    total_s: dict[str, float] | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    cost_complete: bool = True
    recovery_rate: float | None = None
    model: str | None = None
    language: str | None = None
    verdict: str | None = None
    time: datetime | None = None


class Stats(Answer):
    """How your jobs did, all and by groups, and how the sandboxes of the service do."""

    since: datetime | None = None
    until: datetime | None = None
    total: JobStats = JobStats()
    rows: tuple[JobStats, ...] = ()
    estimated_monthly_usd: Decimal = Decimal(0)
    sandbox: dict[str, Any] = Field(default_factory=dict)


class Caller(Answer):
    """Whoever keys speak for."""

    id: str
    name: str
    created_at: datetime | None = None
    quotas: dict[str, Any] = Field(default_factory=dict)


class Key(Answer):
    """An API key. `key` is the key itself, in the answer that made it and never again."""

    id: str
    caller_id: str
    hint: str = ""
    scopes: tuple[str, ...] = ()
    state: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    key: str | None = Field(default=None, repr=False)
