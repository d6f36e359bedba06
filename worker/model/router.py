"""Which models may answer, in which order, and why. Pure: what is open and what is shut is passed in.

`plan` turns a policy into candidates (a model at a gateway), or says why there is none; `pick` chooses among
them at one moment. Every choice and every skip has a reason for a person.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from domain.catalogue import Bucket, Model, UnknownModel
from domain.prices import Price
from domain.routing import Routing
from worker.model import context
from worker.model.budget import dollars, worst_case
from worker.model.gate import Closed
from worker.model.gateways import Gateway, Gateways
from worker.model.want import AUTO, BudgetExceeded, ContextTooLong, NoModel, Priority, Route, Skip, Want

#: Tokens of an answer where neither the request nor a class says.
DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model at a gateway that may answer. `named` where it is the very model that was asked for."""

    model: Model
    gateway: Gateway
    price: Price | None
    max_tokens: int
    reason: str
    named: bool = False

    @property
    def name(self) -> str:
        """Unique among candidates, and the same in every process."""
        return f"{self.gateway.name}/{self.model.name}"

    @property
    def window(self) -> Bucket | None:
        """The limit that takes the fewest tokens in a window; None where none counts tokens."""
        counted = [bucket for bucket in self.gateway.buckets_for(self.model) if bucket.tpm is not None]
        return min(counted, key=lambda bucket: bucket.tpm or 0, default=None)

    @property
    def room(self) -> int | None:
        """The most tokens that a question and its answer may have; None where nobody says."""
        window = self.window
        most = (self.model.context_tokens, None if window is None else window.tpm)
        return min((each for each in most if each is not None), default=None)

    def worst_case_usd(self, input_tokens: int) -> Decimal | None:
        """The most a call may cost; None where the price is unknown."""
        return None if self.price is None else worst_case(self.price, input_tokens, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates, best first, at least one; and the models that were left out."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skip, ...]
    input_tokens: int


@dataclass(frozen=True, slots=True)
class Pick:
    """What to do now: ask `candidate`, or wait for `wait_s`; and why those before it were passed over."""

    candidate: Candidate | None
    wait_s: float
    skipped: tuple[Skip, ...]


def plan(want: Want, gateways: Gateways, routing: Routing, *, allow_unknown_price: bool = False) -> Plan:
    """The candidates of a policy.

    Raises:
        NoModel: nothing is left; its reason names the field and what would do.
        ContextTooLong: the question is too long for all that are left otherwise.
        BudgetExceeded: all that are left otherwise could cost more than the job has left.
    """
    if not gateways:
        raise NoModel("no model gateway is configured; set RETORT_GATEWAY_URL or RETORT_GATEWAYS")
    ordered, max_tokens = _named(want, gateways) if want.model != AUTO else _auto(want, gateways, routing)
    tokens = context.input_tokens(want.messages, want.system)
    sieve = _Sieve(want, tokens, allow_unknown_price)
    candidates: list[Candidate] = []
    for model, reason, named in ordered:
        most = min(max_tokens, model.output_tokens or max_tokens)
        serving = gateways.serving(model.name)
        if not serving:
            sieve.skip(model, None, "no gateway serves it", "served")
        for gateway in serving:
            price = gateways.catalogue.price(model.name, gateway.prices)
            candidate = Candidate(model, gateway, price, most, reason, named)
            if sieve.lets(candidate):
                candidates.append(candidate)
    if not candidates:
        raise sieve.nothing_left()
    if want.model == AUTO and want.role is None and want.route is Route.COST:
        candidates.sort(key=lambda each: _or_last(each.worst_case_usd(tokens)))  # gateways differ in price
    return Plan(tuple(candidates), tuple(sieve.skipped), tokens)


_Ordered = list[tuple[Model, str, bool]]


def _named(want: Want, gateways: Gateways) -> tuple[_Ordered, int]:
    first = _find(want.model, gateways, "model")
    ordered: _Ordered = [(first, f"{want.model} was asked for", True)]
    if want.fallbacks is None:
        more = [(model, "the catalogue's fallback") for model in gateways.catalogue.in_role("fallback")]
    else:
        more = [
            (_find(name, gateways, "fallbacks"), "a fallback that was asked for") for name in want.fallbacks
        ]
    ordered += [(model, f"{reason} for {first.name}", False) for model, reason in more]
    return _once(ordered), want.max_tokens or DEFAULT_MAX_TOKENS


def _auto(want: Want, gateways: Gateways, routing: Routing) -> tuple[_Ordered, int]:
    role = want.role
    if role is None and want.route is None and want.priority is Priority.BATCH:
        role = "batch"
    models = [model for model in gateways.catalogue.models.values() if gateways.serving(model.name)]
    complexity = routing.class_of(want.text)
    max_tokens = want.max_tokens or (complexity.max_tokens if want.route is None else DEFAULT_MAX_TOKENS)
    tokens = context.input_tokens(want.messages, want.system)

    def cost(model: Model) -> Decimal:
        price = gateways.catalogue.price(model.name, gateways.serving(model.name)[0].prices)
        return _or_last(None if price is None else worst_case(price, tokens, max_tokens))

    orders: dict[str, Callable[[Model], tuple[object, ...]]] = {
        Route.COST: lambda model: (cost(model),),
        Route.SPEED: lambda model: (model.task_s is None, model.task_s or 0, cost(model)),
        Route.ACCURACY: lambda model: (-(model.accuracy or 0), cost(model)),
    }
    if want.route is None:
        return _by_words(want.text, gateways, routing, models, orders, role), max_tokens
    models.sort(key=orders[want.route])
    says = {
        Route.COST: "the cheapest",
        Route.SPEED: "the fastest",
        Route.ACCURACY: "the most accurate",
    }[want.route]
    ordered = [(model, f"{says} of those that may answer", False) for model in models]
    if want.route is Route.ACCURACY and models and (models[0].accuracy or 0) < routing.good_accuracy:
        ordered = [
            (model, f"{reason}, though none reaches {routing.good_accuracy}", False)
            for model, reason, _ in ordered
        ]
    return _roles_first(ordered, role), max_tokens


def _by_words(
    text: str,
    gateways: Gateways,
    routing: Routing,
    models: list[Model],
    orders: Mapping[str, Callable[[Model], tuple[object, ...]]],
    role: str | None,
) -> _Ordered:
    complexity, subject = routing.class_of(text), routing.subject_of(text)
    target = gateways.catalogue.find(complexity.model)
    ordered: _Ordered = []
    if subject is not None and complexity == routing.default:
        ordered += [
            (each, f"suits {subject}, which the task is about", False)
            for each in models
            if subject in each.suits
        ]
    if target is not None:
        ordered.append((target, f"the model for {complexity.name} tasks", False))
    rest = sorted(models, key=orders[complexity.then])
    ordered += [(each, f"next by {complexity.then} for a {complexity.name} task", False) for each in rest]
    return _roles_first(ordered, role)


def _roles_first(ordered: _Ordered, role: str | None) -> _Ordered:
    if role is None:
        return _once(ordered)
    first = [(model, f"has the role {role}", named) for model, _, named in ordered if role in model.roles]
    return _once(first + ordered)


def _once(ordered: Iterable[tuple[Model, str, bool]]) -> _Ordered:
    seen: dict[str, tuple[Model, str, bool]] = {}
    for each in ordered:
        seen.setdefault(each[0].name, each)
    return list(seen.values())


def _find(name: str, gateways: Gateways, field: str) -> Model:
    try:
        return gateways.catalogue.get(name)
    except UnknownModel as unknown:
        raise NoModel(f"{field}: {unknown}") from None


def _or_last(usd: Decimal | None) -> Decimal:
    return Decimal("Infinity") if usd is None else usd


class _Sieve:
    """What a policy rules out, and what that says about the policy if nothing is left."""

    def __init__(self, want: Want, tokens: int, allow_unknown_price: bool) -> None:
        self._want = want
        self._tokens = tokens
        self._allow_unknown_price = allow_unknown_price
        self._avoid = want.avoid
        self.skipped: list[Skip] = []
        self._by_rule: dict[str, list[Model]] = {}
        self._rooms: list[tuple[int, Model]] = []  # of those that the question is too long for

    def skip(self, model: Model, gateway: Gateway | None, reason: str, rule: str) -> None:
        self._by_rule.setdefault(rule, []).append(model)
        self.skipped.append(Skip(model.name, None if gateway is None else gateway.name, reason))

    def lets(self, candidate: Candidate) -> bool:
        for rule in (self._avoided, self._inaccurate, self._unable, self._too_long, self._too_dear):
            if reason := rule(candidate):
                self.skip(candidate.model, candidate.gateway, reason, rule.__name__)
                return False
        return True

    def _avoided(self, candidate: Candidate) -> str | None:
        return "it is to be avoided here" if set(candidate.model.key_names) & self._avoid else None

    def _inaccurate(self, candidate: Candidate) -> str | None:
        required, known = self._want.required_accuracy, candidate.model.accuracy
        if required is None or (known is not None and known >= required):
            return None
        return f"its accuracy is {'unknown' if known is None else known}, {required} is required"

    def _unable(self, candidate: Candidate) -> str | None:
        missing = sorted(self._want.needs - candidate.model.capabilities)
        return f"it lacks {', '.join(missing)}" if missing else None

    def _too_long(self, candidate: Candidate) -> str | None:
        reason = context.room_for(candidate.model, self._tokens, candidate.max_tokens)
        window = candidate.window
        if reason is None and window is not None and self._tokens + candidate.max_tokens > (window.tpm or 0):
            reason = f"the call may need more tokens than it takes in a whole window ({window.name})"
        if reason is not None:
            self._rooms.append((candidate.room or 0, candidate.model))
        return reason

    def _too_dear(self, candidate: Candidate) -> str | None:
        if self._want.budget_usd is None and self._want.caller_budget_usd is None:
            return None
        worst = candidate.worst_case_usd(self._tokens)
        if worst is None:
            return None if self._allow_unknown_price else "its price is unknown, and there is a budget"
        return too_dear(worst, self._want.budget_usd)

    def nothing_left(self) -> NoModel | BudgetExceeded:
        """Why no model is left: the rule that came last, as what is left after the others broke that one."""
        skipped = tuple(self.skipped)
        reasons = "; ".join(f"{skip.model}: {skip.reason}" for skip in skipped)
        if "_too_dear" in self._by_rule:
            return BudgetExceeded(f"no model fits the budget ({reasons})", skipped)
        if self._rooms:
            most, largest = max(self._rooms, key=lambda each: each[0])
            bound = "largest context" if most == largest.context_tokens else "most tokens in a window"
            return ContextTooLong(
                f"the task is too long: about {self._tokens:,} tokens; the {bound} of the models that may "
                f"answer is {most:,} ({largest.name}); data belongs in the job's files",
                skipped,
                most_tokens=most,
            )
        if inaccurate := self._by_rule.get("_inaccurate"):
            best = max(inaccurate, key=lambda model: model.accuracy or 0)
            return NoModel(
                f"required_accuracy: no model that may answer reaches {self._want.required_accuracy}; the best "
                f"is {best.name} with {'an unknown accuracy' if best.accuracy is None else best.accuracy}",
                skipped,
            )
        return NoModel(f"no model may answer ({reasons or 'no gateway serves any'})", skipped)


def too_dear(worst: Decimal, left: Decimal | None, whose: str = "the job") -> str | None:
    """Why a call that may cost `worst` is not made with `left` to spend; None if it may be."""
    if left is None or worst <= left:
        return None
    return f"a call may cost {dollars(worst)}, {whose} has {dollars(max(left, Decimal(0)))} left"


def pick(
    candidates: tuple[Candidate, ...],
    shut: Mapping[str, Closed],
    *,
    waited_s: float = 0.0,
    patience_s: float = 0.0,
) -> Pick:
    """The candidate to ask now, given those that are `shut` by name.

    The first that is open; but a model that was asked for by name is waited for, `patience_s` in all, before
    another one takes its place. Where none is open, how long until one is.
    """
    named = [each for each in candidates if each.named]
    all_shut = bool(named) and all(each.name in shut for each in named)
    patient = all_shut and waited_s + _soonest(named, shut) <= patience_s
    skipped: list[Skip] = []
    for each in candidates:
        if each.name in shut:
            skipped.append(Skip(each.model.name, each.gateway.name, shut[each.name].reason))
        elif each.named or not patient:
            return Pick(each, 0.0, tuple(skipped))
    return Pick(None, _soonest(named if patient else candidates, shut), tuple(skipped))


def _soonest(candidates: Iterable[Candidate], shut: Mapping[str, Closed]) -> float:
    waits = [wait for each in candidates if (wait := shut[each.name].wait_s) is not None]
    return min(waits, default=float("inf"))


def without(plan_: Plan, name: str) -> Plan:
    """The same without a candidate; possibly without any."""
    return replace(plan_, candidates=tuple(each for each in plan_.candidates if each.name != name))
