"""The catalogue: what it must hold, what it answers, and what it refuses to be."""

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import Catalogue, CatalogueError, UnknownModel, load_catalogue, parse_catalogue
from domain.prices import Price, Tokens


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The one that comes with us."""
    return load_catalogue()


SONNET = "claude-sonnet-4-20250514"
OPUS = "claude-opus-4-20250514"
HAIKU = "claude-haiku-4-5"


@pytest.mark.parametrize(
    ("name", "model", "prices", "documents"),
    [
        ("gpt-4.1", "gpt-4.1", ("2.00", "8.00"), ("2.00", "8.00")),
        (SONNET, SONNET, ("3.00", "15.00"), ("3.00", "15.00")),
        ("sonnet-4", SONNET, ("3.00", "15.00"), ("3.00", "15.00")),
        ("claude-sonnet-4-5", "claude-sonnet-4-5", ("3.00", "15.00"), ("3.00", "15.00")),
        ("opus-4", OPUS, ("15.00", "75.00"), ("15.00", "75.00")),
        ("haiku-4", HAIKU, ("1.00", "5.00"), ("0.80", "4.00")),
        ("gemini-2.5-flash", "gemini-2.5-flash", ("0.30", "2.50"), ("0.35", "2.50")),
        ("deepseek-v3.2", "deepseek-v3.2", ("0.28", "0.40"), ("0.14", "0.42")),
    ],
)
def test_models_and_their_prices(
    catalogue: Catalogue, name: str, model: str, prices: tuple[str, str], documents: tuple[str, str]
) -> None:
    card = catalogue.get(name)
    assert card.name == model
    listed, other = catalogue.price(name), catalogue.price(name, catalogue.tables["documents"])
    assert listed is not None
    assert other is not None
    assert (listed.input, listed.output) == tuple(map(Decimal, prices))
    assert (other.input, other.output) == tuple(map(Decimal, documents))
    assert listed.checked is not None
    assert listed.source


def test_cards(catalogue: Catalogue) -> None:
    cards = {
        name: (card.context_tokens, card.output_tokens, card.first_token_ms, sorted(card.capabilities))
        for name in ("opus-4", "sonnet-4", "haiku-4")
        for card in [catalogue.get(name)]
    }
    assert cards == {
        "opus-4": (200_000, 8192, (800, 1200), ["json", "tools", "vision"]),
        "sonnet-4": (200_000, 8192, (400, 600), ["json", "tools", "vision"]),
        "haiku-4": (200_000, 4096, (150, 250), ["json", "tools"]),
    }
    assert catalogue.get("opus-4").knowledge_until == "2025-12"


def test_roles_and_weights(catalogue: Catalogue) -> None:
    roles = {
        role: [model.name for model in catalogue.in_role(role)]
        for role in ("primary", "accuracy", "batch", "fallback")
    }
    assert roles == {
        "primary": ["gpt-4.1"],
        "accuracy": [SONNET],
        "batch": ["deepseek-v3.2"],
        "fallback": ["gemini-2.5-flash"],
    }
    weights = {
        name: catalogue.get(name).accuracy for name in (SONNET, "gpt-4.1", "gemini-2.5-flash", "deepseek-v3.2")
    }
    assert list(weights.values()) == [0.97, 0.94, 0.89, 0.85]
    assert "batch" in catalogue.get("gpt-4.1").suits
    assert {"finance", "science", "visualization"} <= set(catalogue.get(SONNET).suits)


def test_limits(catalogue: Catalogue) -> None:
    def limits(name: str) -> list[tuple[str, int | None, int | None, int | None]]:
        return [(each.name, each.rpm, each.tpm, each.burst) for each in catalogue.get(name).buckets]

    assert limits("gpt-4.1") == [("provider:openai", 500, 1_000_000, 50)]
    for name in ("opus", "sonnet", "haiku"):
        assert limits(f"{name}-4") == [
            ("provider:anthropic", 300, 500_000, 30),
            (f"bucket:{name}", 60, 100_000, None),
        ]


@pytest.mark.parametrize(
    ("name", "model", "settings", "latency"),
    [
        ("code-generation", SONNET, {"temperature": 0.2, "top_p": 0.95, "max_tokens": 4096}, 520),
        ("creative-writing", OPUS, {"temperature": 0.9, "top_p": 0.95, "max_tokens": 2048}, 980),
        ("data-extraction", HAIKU, {"temperature": 0.1, "top_p": 1.0, "max_tokens": 1024}, 180),
        ("long-document-analysis", OPUS, {"temperature": 0.3, "top_p": 0.95, "max_tokens": 8192}, 1150),
        ("real-time-chat", HAIKU, {"temperature": 0.7, "top_p": 0.95, "max_tokens": 512}, 160),
    ],
)
def test_presets(catalogue: Catalogue, name: str, model: str, settings: dict[str, float], latency: int) -> None:
    preset = catalogue.presets[name]
    found = {"temperature": preset.temperature, "top_p": preset.top_p, "max_tokens": preset.max_tokens}
    assert (preset.model, found, preset.latency_ms) == (model, settings, latency)
    taken = preset.settings_for(catalogue.models[model])
    assert taken == {key: value for key, value in settings.items() if key not in catalogue.models[model].drops}
    assert ("top_p" in taken) is (model != HAIKU)


def test_a_preset_asks_for_no_more_than_its_model_gives(catalogue: Catalogue) -> None:
    assert (
        catalogue.presets["long-document-analysis"].settings_for(catalogue.get("haiku-4"))["max_tokens"] == 4096
    )


def test_input_and_output_have_their_own_prices(catalogue: Catalogue) -> None:
    cost = catalogue.cost("gpt-4.1", Tokens(input_tokens=1_000_000, output_tokens=500_000))
    assert cost is not None
    assert (cost.usd, cost.cents, cost.rounded()) == (Decimal("6.00"), Decimal("600.00"), Decimal("6.0000"))


def test_cached_tokens_have_theirs(catalogue: Catalogue) -> None:
    cost = catalogue.cost("sonnet-4", Tokens(1000, 1000, cache_read_tokens=10_000, cache_write_tokens=2000))
    assert cost is not None
    assert cost.usd == Decimal("0.003") + Decimal("0.015") + Decimal("0.003") + Decimal("0.0075")
    plain = Price(Decimal(1), Decimal(2)).cost(Tokens(cache_read_tokens=1_000_000))
    assert plain.usd == 1  # without a price of its own, that of fresh ones


def test_one_price_for_all_tokens(catalogue: Catalogue) -> None:
    cost = catalogue.cost("gpt-4.1", Tokens(300_000, 700_000), catalogue.tables["documents-blended"])
    assert cost is not None
    assert cost.usd == Decimal(8)


def test_a_table_in_another_currency(catalogue: Catalogue) -> None:
    table = catalogue.tables["yuan"]
    cost = catalogue.cost("gpt-4.1", Tokens(input_tokens=1_000_000), table)
    assert cost is not None
    assert (cost.amount, cost.price.currency) == (Decimal(8), "CNY")
    assert cost.rounded(2) == Decimal("1.10")  # 8 / 7.3


def test_the_resellers_plan_is_seven_eighths_off(catalogue: Catalogue) -> None:
    plan, list_prices = catalogue.tables["reseller"], catalogue.tables["documents-blended"]
    for model, price in plan.prices.items():
        assert price.input == pytest.approx(list_prices.prices[model].input / 8, abs=Decimal("0.006"))


def test_unknown_models_and_unknown_prices(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel, match=r"did you mean gpt-4\.1"):
        catalogue.get("gpt-4.2")
    assert catalogue.price("my-own-model") is None
    assert catalogue.cost("my-own-model", Tokens(1000, 1000)) is None
    more = catalogue.extended(["my-own-model", "openai/gpt-5-mini", "sonnet-4"])
    own, other = more.get("my-own-model"), more.get("openai/gpt-5-mini")
    assert (own.price, own.listed, own.accuracy, own.context_tokens) == (None, False, None, None)
    assert own.buckets[0].rpm == 60
    assert other.price is not None
    assert other.price.source.startswith("genai-prices")
    assert other.price.output > other.price.input > 0
    assert len(more.models) == len(catalogue.models) + 2


tokens = st.builds(Tokens, *[st.integers(0, 10**7)] * 4)


@given(tokens, tokens)
def test_costs_add_up_exactly(a: Tokens, b: Tokens) -> None:
    price = Price(Decimal("0.28"), Decimal("2.50"), Decimal("0.03"), Decimal("3.75"))
    both = Tokens(
        a.input_tokens + b.input_tokens,
        a.output_tokens + b.output_tokens,
        a.cache_read_tokens + b.cache_read_tokens,
        a.cache_write_tokens + b.cache_write_tokens,
    )
    assert price.cost(a).usd + price.cost(b).usd == price.cost(both).usd


MODEL = 'models.m.price = { input = "1", output = 2.5 }\n'


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(MODEL)
    price = load_catalogue(file).price("m")
    assert price is not None
    assert price.output == Decimal("2.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no model"),
        ("models.m.prise = 3", "unknown prise"),
        ("other = 1\n[models.m]", "unknown other"),
        ('models.m.price = { input = "1" }', "needs `input` and `output`"),
        ('models.m.price = { all = "1", input = "1" }', "one or the other"),
        ('models.m.price = { all = "-1" }', "not negative"),
        ('models.m.price = { all = "NaN" }', "not negative"),
        ('models.m.price = { all = "cheap" }', "decimal number"),
        ("models.m.accuracy = 97", "from 0 to 1"),
        ('models.m.drops = ["messages"]', "allowed are stop, temperature, top_p"),
        ('models.m.roles = ["boss"]', "unknown boss"),
        ('models.m.bucket = "b"', "no buckets.b"),
        ('models.m.dialect = "latin"', "anthropic, openai"),
        ("models.m.context_tokens = 0", "above 0"),
        ('[models.m]\naliases = ["n"]\n[models.n]', "means both"),
        (MODEL + '[tables.t]\ncurrency = "CNY"\n[tables.t.prices]\nm = { all = 1 }', "usd_per_unit is missing"),
        (MODEL + "[tables.t.prices]\nx = { all = 1 }", "not a model here"),
        (MODEL + '[presets.p]\nmodel = "x"\nmax_tokens = 1', "not a model or alias"),
        (MODEL + '[presets.p]\nmodel = "m"', "max_tokens is missing"),
        ("models = [", "models.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(CatalogueError, match=message) as error:
        load_catalogue(file)
    assert str(file) in str(error.value)


def test_prices_that_were_rounded_are_refused() -> None:
    data = tomllib.loads("models.m.price = { all = 0.1 }")  # without parse_float
    with pytest.raises(ValueError, match="decimal number"):
        parse_catalogue(data)
