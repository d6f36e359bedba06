"""`retort savings`: what a mix of models would save against one model for everything."""

import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from retort.cli.common import AsJson, service

if TYPE_CHECKING:
    from retort.savings import Comparison, Price, Usage

Calls = Annotated[int, typer.Option("--calls", min=1, help="Calls a month.")]
Input = Annotated[int, typer.Option("--input", min=0, help="Tokens that a call reads.")]
Output = Annotated[int, typer.Option("--output", min=0, help="Tokens that a call writes.")]
Baseline = Annotated[str, typer.Option("--baseline", help="The model that would do everything.")]
Mix = Annotated[str, typer.Option("--mix", help="Models and their per cent of the calls, as a=60,b=40.")]
Prices = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        help="NAME=IN/OUT in dollars per million tokens, or NAME=BOTH; else as the service lists it.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(savings)


def savings(
    calls: Calls = 10_000,
    input_tokens: Input = 500,
    output_tokens: Output = 300,
    baseline: Baseline = "sonnet-4",
    mix: Mix = "haiku-4=60,sonnet-4=30,opus-4=10",
    price: Prices = None,
    as_json: AsJson = False,
) -> None:
    """Compare a mix of models with one model for everything, at today's prices or at those given."""
    from retort.savings import MixError, Usage, compare

    shares = _shares(mix)
    known = _prices(price or [])
    missing = {baseline, *shares} - set(known)
    if missing:
        known |= _from_service(missing)
    usage = Usage(calls, input_tokens, output_tokens)
    try:
        found = compare(usage, known[baseline], [(known[name], share) for name, share in shares.items()])
    except MixError as e:
        raise typer.BadParameter(str(e), param_hint="--mix") from None
    if as_json:
        typer.echo(json.dumps(_document(usage, baseline, shares, known, found), indent=2))
        return
    for name in sorted({baseline, *shares}):
        typer.echo(f"{name}: ${known[name].input:f} in, ${known[name].output:f} out per million tokens")
    percent = "" if found.saved_share is None else f", {100 * found.saved_share:.1f} %"
    typer.echo(f"{calls:,} calls of {input_tokens:,} + {output_tokens:,} tokens a month")
    typer.echo(f"baseline   ${found.baseline_usd:,.2f}   all by {baseline}")
    typer.echo(f"mix        ${found.mix_usd:,.2f}   {mix}")
    typer.echo(f"saved      ${found.saved_usd:,.2f}{percent}; ${found.saved_year_usd:,.2f} a year")


def _document(
    usage: "Usage",
    baseline: str,
    shares: dict[str, Decimal],
    prices: dict[str, "Price"],
    found: "Comparison",
) -> dict[str, object]:
    used = sorted({baseline, *shares})
    return {
        "calls": usage.calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "baseline": baseline,
        "mix": {name: str(share) for name, share in shares.items()},
        "prices": {
            name: {"input": str(prices[name].input), "output": str(prices[name].output)} for name in used
        },
        "baseline_usd": str(found.baseline_usd),
        "mix_usd": str(found.mix_usd),
        "saved_usd": str(found.saved_usd),
        "saved_share": None if found.saved_share is None else str(found.saved_share),
        "saved_year_usd": str(found.saved_year_usd),
    }


def _shares(mix: str) -> dict[str, Decimal]:
    shares: dict[str, Decimal] = {}
    for part in mix.split(","):
        name, separator, percent = part.strip().partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{part!r} is not a model and its per cent, as a=60", param_hint="--mix")
        shares[name] = shares.get(name, Decimal(0)) + _decimal(percent, "--mix") / 100
    return shares


def _prices(given: list[str]) -> "dict[str, Price]":
    from retort.savings import Price

    prices = {}
    for each in given:
        name, separator, numbers = each.partition("=")
        read, _, written = numbers.partition("/")
        if not separator or not name:
            raise typer.BadParameter(f"{each!r} is not NAME=IN/OUT", param_hint="--price")
        prices[name] = Price(_decimal(read, "--price"), _decimal(written or read, "--price"))
    return prices


def _decimal(text: str, option: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise typer.BadParameter(f"{text!r} is not a number that is 0 or more", param_hint=option)
    return number


def _from_service(names: set[str]) -> "dict[str, Price]":
    """Prices by name or alias as the service lists them."""
    from retort.savings import Price

    with service(advice="; give the prices with --price NAME=IN/OUT") as client:
        cards = client.models().models
    listed = {name: card.price for card in cards for name in (card.name, *card.aliases)}
    known = {name: price for name in names if (price := listed.get(name)) is not None}
    if unknown := sorted(names - known.keys()):
        raise typer.BadParameter(
            f"no price is known for {', '.join(unknown)}; give it with --price NAME=IN/OUT",
            param_hint="--price",
        )
    return {name: Price(price.input, price.output) for name, price in known.items()}
