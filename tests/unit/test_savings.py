"""The savings calculator: figures that were published, with the true values where those were wrong."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from retort.cli.main import app
from retort.savings import (
    MixError,
    Price,
    Usage,
    calls_to_pay_back,
    compare,
    cost_per_success,
    error_cost_to_route_up,
)

D = Decimal
GPT = Price(D(2), D(8))
OPUS, SONNET, HAIKU = Price(D(15), D(75)), Price(D(3), D(15)), Price(D("0.80"), D(4))
DEEPSEEK, GEMINI = Price(D("0.14"), D("0.42")), Price(D("0.35"), D("2.50"))
TIERS = [(HAIKU, D("0.6")), (SONNET, D("0.3")), (OPUS, D("0.1"))]


@pytest.mark.parametrize(
    ("calls", "output", "gpt", "claude", "saved_a_year"),
    [
        (50_000, 500, 200, 375, 2_100),
        (200_000, 2_000, 3_200, 6_000, 33_600),  # published elsewhere as 33,000
        (500_000, 5_000, 20_000, 37_500, 210_000),
        (2_000_000, 8_000, 128_000, 240_000, 1_344_000),
    ],
)
def test_output_tokens_a_month(calls: int, output: int, gpt: int, claude: int, saved_a_year: int) -> None:
    usage = Usage(calls, output_tokens=output)
    found = compare(usage, SONNET, [(GPT, D(1))])
    assert (found.mix_usd, found.baseline_usd, found.saved_year_usd) == (D(gpt), D(claude), D(saved_a_year))


@pytest.mark.parametrize(
    ("price", "true", "published"),
    [
        (OPUS, "45.00", "18.50"),
        (SONNET, "9.00", "4.20"),
        (HAIKU, "2.40", "1.15"),
        (DEEPSEEK, "0.28", "0.18"),
        (GEMINI, "1.425", "0.85"),
    ],
)
def test_a_thousand_questions_of_500_and_500(price: Price, true: str, published: str) -> None:
    cost = Usage(1_000, 500, 500).cost(price)
    assert cost == D(true)
    assert cost != D(published)


def test_a_million_calls_save_four_per_cent_not_fifty_five() -> None:
    found = compare(Usage(1_000_000, 600, 400), SONNET, TIERS)
    assert (found.baseline_usd, found.mix_usd) == (D(7_800), D(7_488))
    assert found.saved_share == D("0.04")


def test_ten_thousand_calls_of_the_example() -> None:
    found = compare(Usage(10_000, 500, 300), SONNET, TIERS)
    assert (found.baseline_usd, found.mix_usd, found.saved_usd) == (D(60), D("57.6"), D("2.4"))
    assert found.saved_share == D("0.04")


def test_without_the_dearest_tier_the_promised_share_is_near() -> None:
    """40 to 60 % is what the mix saves if no tenth of it goes to the dearest model."""
    found = compare(Usage(1_000_000, 600, 400), SONNET, [(HAIKU, D("0.6")), (SONNET, D("0.4"))])
    assert found.saved_share == D("0.44")


def test_what_a_thousand_executions_of_52_tokens_cost() -> None:
    """Published as 0.42 and 0.89 for a thousand, and as 52 for ten thousand."""
    assert Usage(1_000, 0, 52).cost(GPT) == D("0.416")
    assert Usage(1_000, 0, 52).cost(SONNET) == D("0.78")
    assert Usage(10_000, 0, 52).cost(GPT) == D("4.16")


def test_one_price_for_every_token() -> None:
    assert Usage(1, 600, 400).cost(Price.blended(D(8))) == D("0.008")


def test_when_the_dearer_model_pays_off() -> None:
    """At 15 to 8 dollars, 1.875 times the price, and 3.6 points more right answers."""
    cheap, dear = Usage(1, 0, 1_000).cost(GPT), Usage(1, 0, 1_000).cost(SONNET)
    assert dear / cheap == D("1.875")
    needed = error_cost_to_route_up(cheap, dear, D("0.036"))
    assert needed is not None
    assert round(needed, 4) == D("0.1944")
    assert error_cost_to_route_up(cheap, dear, D(0)) is None


def test_nothing_is_divided_by_nothing() -> None:
    assert cost_per_success(D(5), 0) is None
    assert cost_per_success(D(5), 4) == D("1.25")
    assert compare(Usage(1), SONNET, TIERS).saved_share is None
    assert calls_to_pay_back(D(100), D(0)) is None
    assert calls_to_pay_back(D(100), D("0.003")) == 33_334


@pytest.mark.parametrize("shares", [[], ["0.5"], ["0.6", "0.5"], ["1.5", "-0.5"]])
def test_shares_make_one_whole(shares: list[str]) -> None:
    with pytest.raises(MixError):
        compare(Usage(1), SONNET, [(HAIKU, D(share)) for share in shares])


prices = st.builds(Price, *[st.decimals(0, 1000, places=4)] * 2)


@given(prices, prices, st.integers(0, 100), st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 10**5))
def test_a_mix_lies_between_its_models(
    a: Price, b: Price, percent: int, calls: int, read: int, written: int
) -> None:
    usage, share = Usage(calls, read, written), D(percent) / 100
    found = compare(usage, a, [(a, 1 - share), (b, share)])
    costs = sorted((usage.cost(a), usage.cost(b)))
    assert costs[0] - D("1e-9") <= found.mix_usd <= costs[1] + D("1e-9")
    assert found.saved_usd + found.mix_usd == found.baseline_usd


GIVEN = ["--price", "sonnet-4=3/15", "--price", "haiku-4=0.80/4", "--price", "opus-4=15/75"]


def test_the_command_with_given_prices() -> None:
    found = CliRunner().invoke(app, ["savings", *GIVEN, "--json"])
    assert found.exit_code == 0, found.output
    document = json.loads(found.output)
    assert (document["baseline_usd"], document["mix_usd"], document["saved_share"]) == ("60", "57.6", "0.04")
    text = CliRunner().invoke(app, ["savings", *GIVEN]).output
    assert "saved      $2.40, 4.0 %; $28.80 a year" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--mix", "haiku-4=60"],
        ["--mix", "nothing"],
        ["--price", "x"],
        ["--price", "x=a/b"],
        ["--price", "x=-1"],
        ["--calls", "0"],
    ],
)
def test_the_command_refuses_what_makes_no_sense(options: list[str]) -> None:
    assert CliRunner().invoke(app, ["savings", *GIVEN, *options]).exit_code == 2
