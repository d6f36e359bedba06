"""What the service offers, as answers carry it: languages, profiles, models."""

from typing import Literal

from api.schemas import Answer


class LanguageVersion(Answer):
    """A version of a language that some worker has. `name` is what a job says that wants just this one.

    `profiles` are those in which that name is run by this image, `packages` what programs can import.
    """

    name: str
    version: str
    image: str
    profiles: list[str]
    system: str | None
    packages: dict[str, str]


class Language(Answer):
    """A language, and the profiles it can be run in. Without `versions` no worker can run it now."""

    name: str
    title: str
    compiled: bool
    profiles: list[str]
    versions: list[LanguageVersion]


class LanguageList(Answer):
    """The languages."""

    languages: list[Language]


class Range(Answer):
    """What a limit may be, both ends allowed, and where a request is silent (null: no such limit)."""

    least: float
    default: float | None
    most: float


class Profile(Answer):
    """A named set of limits. What is `fixed` a request cannot choose."""

    name: str
    title: str
    limits: dict[str, Range]
    fixed: dict[str, int]
    files: dict[str, int]


class ProfileList(Answer):
    """The profiles."""

    profiles: list[Profile]


class ModelPrice(Answer):
    """Prices per million tokens in `currency`, as decimal text; one unit of it costs `usd_per_unit` dollars."""

    input: str
    output: str
    cache_read: str | None
    cache_write: str | None
    currency: str
    usd_per_unit: str
    source: str
    checked: str | None


class ModelGateway(Answer):
    """A gateway that serves a model at the moment. `price` is its own, where it differs from the list."""

    name: str
    dialect: Literal["openai", "anthropic"]
    price: ModelPrice | None


class ModelLimit(Answer):
    """Requests and tokens a minute, and requests under way; null: no limit."""

    name: str
    rpm: int | None
    tpm: int | None
    burst: int | None


class Model(Answer):
    """The card of a model. `available`: a live worker can ask it. A null price is unknown, not nothing."""

    name: str
    title: str
    provider: str | None
    aliases: list[str]
    available: bool
    gateways: list[ModelGateway]
    price: ModelPrice | None
    context_tokens: int | None
    output_tokens: int | None
    capabilities: list[str]
    knowledge_until: str | None
    accuracy: float | None
    accuracy_source: str | None
    roles: list[str]
    suits: list[str]
    limits: list[ModelLimit]


class Preset(Answer):
    """Settings for one kind of work, without those that its model refuses."""

    name: str
    title: str
    model: str
    temperature: float | None
    top_p: float | None
    max_tokens: int
    latency_ms: int | None


class ModelList(Answer):
    """The models and the presets."""

    models: list[Model]
    presets: list[Preset]
