"""Options that several commands have, named once: for programs that run, and for models that write them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Language = Annotated[str | None, typer.Option("--language", "-l", help="As in `retort images`.")]
Timeout = Annotated[int | None, typer.Option("--timeout", "-t", help="Seconds the program may run.")]
Memory = Annotated[int | None, typer.Option("--memory", "-m", help="MB the program may use.")]
Profile = Annotated[str | None, typer.Option("--profile", "-p", help="A named set of limits.")]
Cache = Annotated[bool, typer.Option("--cache", help="Take results of equal earlier jobs.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", exists=True, dir_okay=False, help="A file for the work folder; repeat it."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE; repeat it.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id, and do not wait.")]
Model = Annotated[str | None, typer.Option("--model", help="A model's name or alias, or auto.")]
Route = Annotated[str | None, typer.Option("--route", help="What auto prefers: cost, speed or accuracy.")]
Attempts = Annotated[int | None, typer.Option("--attempts", "-n", min=1, help="Programs that are tried.")]
Budget = Annotated[str | None, typer.Option("--budget", help="US dollars that the models may cost.")]
JobAsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON instead of its output.")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the shared options say: `options` for a call of the client, the others for what is shown of it."""

    options: dict[str, Any]
    detach: bool
    as_json: bool

    def also(self, **options: Any) -> dict[str, Any]:
        """The options with a command's own beside; what was not given is left out."""
        return self.options | _given(options)


def _of_programs(
    *,
    timeout: Timeout = None,
    memory: Memory = None,
    profile: Profile = None,
    labels: Labels = None,
    cache: Cache = False,
    detach: Detach = False,
    as_json: JobAsJson = False,
) -> Chosen:
    limits = _given({"timeout_s": timeout, "memory_mb": memory})
    options = {"limits": limits, "profile": profile, "labels": _labels(labels or []), "cache": cache or None}
    return Chosen(_given(options), detach, as_json)


def _of_models(
    *, model: Model = None, route: Route = None, attempts: Attempts = None, budget: Budget = None
) -> dict[str, Any]:
    return _given({"model": model, "route": route, "max_attempts": attempts, "budget_usd": budget})


def submits(*, models: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that submits: beside its own it has the options for programs, and maybe for models.

    What they say is its last parameter, `chosen`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        asks = inspect.signature(_of_models).parameters if models else {}
        runs = inspect.signature(_of_programs).parameters
        shown = [*(each for each in own.values() if each.name != "chosen"), *asks.values(), *runs.values()]

        @wraps(command)
        def whole(**given: Any) -> None:
            chosen = _of_programs(**{name: given.pop(name) for name in runs})
            chosen.options.update(_of_models(**{name: given.pop(name) for name in asks}))
            command(**given, chosen=chosen)

        whole.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # Typer reads it
        whole.__annotations__ = {each.name: each.annotation for each in shown}
        return whole

    return decorate


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, {}, [])}


def _labels(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if wrong := [name for name, separator, _ in pairs if not separator or not name]:
        raise typer.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="--label")
    return {name: value for name, _, value in pairs}
