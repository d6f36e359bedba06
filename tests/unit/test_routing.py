"""Routing: complexity by words, the order of candidates, what a policy rules out, the choice of the moment."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue import Bucket, load_catalogue
from domain.routing import load_routing
from worker.model import router
from worker.model.gate import Closed
from worker.model.gateways import Gateway, Gateways, Served
from worker.model.types import Message
from worker.model.want import BudgetExceeded, ContextTooLong, NoModel, Priority, Route, Want

CATALOGUE = load_catalogue()
ROUTING = load_routing()
GPT, SONNET, OPUS, HAIKU = "gpt-4.1", "claude-sonnet-4-20250514", "claude-opus-4-20250514", "claude-haiku-4-5"
GEMINI, DEEPSEEK = "gemini-2.5-flash", "deepseek-v3.2"


def a_gateway(name: str, *models: str, **values: Any) -> Gateway:
    return Gateway(name, "http://x/v1", "openai", None, {each: Served(each, each) for each in models}, **values)


ALL = Gateways(CATALOGUE, (a_gateway("g", *CATALOGUE.models),))


def want(text: str = "", **values: Any) -> Want:
    return Want(**{"caller": "anna", "messages": (Message("user", text or "x"),), "text": text, **values})


def order(policy: Want, served: Gateways = ALL) -> list[str]:
    return [each.model.name for each in router.plan(policy, served, ROUTING).candidates]


# --- complexity


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is 2 + 2?", "simple"),
        ("list the files", "simple"),
        ("LIST them", "simple"),
        ("what should I design", "complex"),  # the most demanding match, not the first
        ("Explain what happens", "moderate"),
        ("shuffle my playlist", "moderate"),  # a word within a word does not count
        ("a discount account", "moderate"),
        ("count_words is a function", "moderate"),
        ("redesign the whole", "moderate"),
        ("", "moderate"),
        ("Evaluate; then count.", "complex"),
    ],
)
def test_the_class_of_a_task(text: str, name: str) -> None:
    assert ROUTING.class_of(text).name == name


@settings(max_examples=40)
@given(st.text(max_size=40), st.sampled_from(ROUTING.classes))
def test_a_demanding_word_is_never_outweighed(text: str, complexity: Any) -> None:
    rank = [each.name for each in ROUTING.classes]
    for word in complexity.words:
        assert rank.index(ROUTING.class_of(f"{text} {word} {text}").name) <= rank.index(complexity.name)


@pytest.mark.parametrize(
    ("text", "model", "max_tokens"),
    [
        ("what is it", HAIKU, 256),
        ("explain it", SONNET, 1024),
        ("architect it", OPUS, 4096),
        ("hello", SONNET, 1024),
        ("rename the columns", GPT, 1024),
        ("a financial report", SONNET, 1024),
    ],
)
def test_auto_takes_the_model_of_the_class_or_subject(text: str, model: str, max_tokens: int) -> None:
    first = router.plan(want(text), ALL, ROUTING).candidates[0]
    assert (first.model.name, first.max_tokens) == (model, max_tokens)


# --- routes, roles, names


def test_routes() -> None:
    assert order(want(route=Route.COST))[0] == DEEPSEEK
    assert order(want(route=Route.SPEED))[:2] == [GEMINI, GPT]
    accurate = order(want(route=Route.ACCURACY))
    weights = [CATALOGUE.models[name].accuracy or 0 for name in accurate]
    assert weights == sorted(weights, reverse=True)
    assert accurate.index(SONNET) < accurate.index(GPT) < accurate.index(GEMINI) < accurate.index(DEEPSEEK)


def test_cost_counts_what_the_call_would_cost() -> None:
    prices = [each.worst_case_usd(1) for each in router.plan(want(route=Route.COST), ALL, ROUTING).candidates]
    known = [each for each in prices if each is not None]
    assert known == sorted(known)


@pytest.mark.parametrize(
    ("role", "model"), [("primary", GPT), ("accuracy", SONNET), ("batch", DEEPSEEK), ("fallback", GEMINI)]
)
def test_roles_come_first(role: str, model: str) -> None:
    first = router.plan(want(role=role), ALL, ROUTING).candidates[0]
    assert (first.model.name, first.reason) == (model, f"has the role {role}")


def test_what_nobody_waits_for_goes_to_the_batch_model() -> None:
    assert order(want("design it", priority=Priority.BATCH))[0] == DEEPSEEK
    assert order(want("design it", priority=Priority.BATCH, role="primary"))[0] == GPT
    assert order(want("design it", priority=Priority.BATCH, route=Route.SPEED))[0] == GEMINI
    assert order(want("design it", priority=Priority.BATCH, model=GPT))[0] == GPT


def test_a_name_or_alias_and_its_fallbacks() -> None:
    assert order(want(model="sonnet-4")) == [SONNET, GEMINI]
    assert order(want(model="sonnet-4", fallbacks=("opus-4", GPT))) == [SONNET, OPUS, GPT]
    assert order(want(model=GPT, fallbacks=())) == [GPT]
    assert order(want(model=GEMINI)) == [GEMINI]
    with pytest.raises(NoModel, match="model: no model is called 'sonet-4'; did you mean sonnet-4"):
        order(want(model="sonet-4"))
    with pytest.raises(NoModel, match="fallbacks: no model is called 'x'"):
        order(want(model=GPT, fallbacks=("x",)))


def test_the_same_model_elsewhere_comes_before_another_model() -> None:
    served = Gateways(CATALOGUE, (a_gateway("a", GPT, GEMINI), a_gateway("b", GPT)))
    names = [each.name for each in router.plan(want(model=GPT), served, ROUTING).candidates]
    assert names == ["a/gpt-4.1", "b/gpt-4.1", "a/gemini-2.5-flash"]


# --- what is ruled out


def test_accuracy_that_is_required() -> None:
    policy = want(route=Route.COST, required_accuracy=0.95)
    plan = router.plan(policy, ALL, ROUTING)
    assert all((each.model.accuracy or 0) >= 0.95 for each in plan.candidates)
    reasons = {skip.model: skip.reason for skip in plan.skipped}
    assert reasons[GPT] == "its accuracy is 0.94, 0.95 is required"
    served = Gateways(CATALOGUE, (a_gateway("g", GPT, DEEPSEEK),))
    with pytest.raises(NoModel, match=r"required_accuracy: .* reaches 0.95; the best is gpt-4.1 with 0.94"):
        order(policy, served)


def test_capabilities_that_are_needed() -> None:
    assert HAIKU not in order(want(needs=frozenset({"vision"})))
    with pytest.raises(NoModel, match="lacks vision"):
        order(want(model="haiku-4", fallbacks=(), needs=frozenset({"vision"})))


def test_a_long_question_goes_to_a_long_context_or_nowhere() -> None:
    free = {name: Bucket("none") for name in CATALOGUE.models}
    served = Gateways(CATALOGUE, (a_gateway("g", *CATALOGUE.models, model_limits=free),))
    assert set(order(want("x" * 4 * 190_000, max_tokens=8000, route=Route.COST), served)) <= {
        GPT,
        GEMINI,
        OPUS,
        SONNET,
        "claude-sonnet-4-5",
        HAIKU,
    }
    assert order(want("x" * 4 * 500_000, route=Route.COST), served) == [GEMINI, GPT]
    with pytest.raises(ContextTooLong, match="largest context"):
        order(want("x" * 4 * 2_000_000), served)


def test_a_question_fits_a_minute_of_the_limits_too() -> None:
    text = "x" * 4 * 150_000  # sonnet takes 200,000 tokens at once, and 100,000 in a minute
    plan = router.plan(want(text, model="sonnet-4", fallbacks=(GPT,)), ALL, ROUTING)
    assert [each.model.name for each in plan.candidates] == [GPT]
    assert "more tokens than it takes in a whole window" in plan.skipped[0].reason
    with pytest.raises(ContextTooLong, match=r"most tokens in a window .* is 100,000 \(claude-sonnet-4") as e:
        order(want(text, model="sonnet-4", fallbacks=()))
    assert e.value.most_tokens == 100_000


def test_budget() -> None:
    assert order(want(model=OPUS, fallbacks=(GEMINI,), max_tokens=1000, budget_usd=Decimal("0.01"))) == [GEMINI]
    with pytest.raises(BudgetExceeded, match=r"may cost \$0.07"):
        order(want(model=OPUS, fallbacks=(), max_tokens=1000, budget_usd=Decimal("0.01")))


def test_models_to_be_avoided() -> None:
    assert order(want(model=GPT, avoid=frozenset({GPT}))) == [GEMINI]
    assert order(want(model="sonnet-4", avoid=frozenset({"sonnet-4"}))) == [GEMINI]


def test_without_gateways() -> None:
    with pytest.raises(NoModel, match="RETORT_GATEWAY_URL"):
        order(want(), Gateways(CATALOGUE))


policies = st.builds(
    want,
    st.sampled_from(["", "what", "design it", "x" * 900_000]),
    model=st.sampled_from(["auto", GPT, "opus-4", "haiku-4"]),
    route=st.sampled_from([None, *Route]),
    role=st.sampled_from([None, "primary", "batch"]),
    required_accuracy=st.sampled_from([None, 0.5, 0.9, 0.96, 0.99]),
    needs=st.sets(st.sampled_from(["vision", "tools", "json"])).map(frozenset),
    fallbacks=st.sampled_from([None, (), (DEEPSEEK, OPUS)]),
    avoid=st.sets(st.sampled_from([GPT, SONNET, DEEPSEEK])).map(frozenset),
    budget_usd=st.sampled_from([None, Decimal("0.001"), Decimal(1)]),
    max_tokens=st.sampled_from([None, 1, 5_000, 100_000]),
)


@given(policies, st.sets(st.sampled_from(sorted(CATALOGUE.models)), min_size=1))
def test_every_candidate_keeps_the_policy_and_every_other_has_a_reason(policy: Want, served: set[str]) -> None:
    gateways = Gateways(CATALOGUE, (a_gateway("g", *sorted(served)),))
    try:
        plan = router.plan(policy, gateways, ROUTING)
    except (NoModel, BudgetExceeded):
        return
    names = [each.name for each in plan.candidates]
    assert len(names) == len(set(names)) > 0
    for each in plan.candidates:
        model = each.model
        assert model.name in served - policy.avoid
        assert policy.needs <= model.capabilities
        assert policy.required_accuracy is None or (model.accuracy or 0) >= policy.required_accuracy
        assert each.max_tokens <= (model.output_tokens or each.max_tokens)
        assert plan.input_tokens + each.max_tokens <= (model.context_tokens or 10**9)
        worst = each.worst_case_usd(plan.input_tokens)
        assert policy.budget_usd is None or (worst is not None and worst <= policy.budget_usd)
    told = {skip.model for skip in plan.skipped}
    assert told.isdisjoint(each.model.name for each in plan.candidates)
    if policy.model == "auto":
        assert served <= told | {each.model.name for each in plan.candidates}


# --- the choice of the moment

CANDIDATES = router.plan(want(model=GPT, fallbacks=(GEMINI, DEEPSEEK)), ALL, ROUTING).candidates


def shut(**waits: float | None) -> dict[str, Closed]:
    names = {"gpt": f"g/{GPT}", "gemini": f"g/{GEMINI}", "deepseek": f"g/{DEEPSEEK}"}
    return {names[name]: Closed(wait, "shut") for name, wait in waits.items()}


@pytest.mark.parametrize(
    ("closed", "waited", "model", "wait"),
    [
        (shut(), 0, GPT, 0),
        (shut(gemini=1), 0, GPT, 0),
        (shut(gpt=3), 0, None, 3),  # asked for by name, and soon to be had
        (shut(gpt=3), 8, GEMINI, 0),  # waited for long enough
        (shut(gpt=30), 0, GEMINI, 0),
        (shut(gpt=30, gemini=1), 0, DEEPSEEK, 0),
        (shut(gpt=30, gemini=20, deepseek=40), 0, None, 20),
        (shut(gpt=5, gemini=1, deepseek=40), 0, None, 5),
        (shut(gpt=None, gemini=7, deepseek=None), 0, None, 7),
    ],
)
def test_the_pick(closed: dict[str, Closed], waited: float, model: str | None, wait: float) -> None:
    pick = router.pick(CANDIDATES, closed, waited_s=waited, patience_s=10)
    assert (pick.candidate and pick.candidate.model.name, pick.wait_s) == (model, wait)
    passed_over = {skip.model for skip in pick.skipped}
    assert (pick.candidate is None) or pick.candidate.model.name not in passed_over


@given(
    st.lists(st.one_of(st.none(), st.floats(0.01, 100)), min_size=len(CANDIDATES), max_size=len(CANDIDATES)),
    st.floats(0, 100),
    st.floats(0, 100),
)
def test_a_pick_is_open_and_no_open_one_is_missed(
    waits: list[float | None], waited: float, patience: float
) -> None:
    closed = {each.name: Closed(wait, "shut") for each, wait in zip(CANDIDATES, waits, strict=True) if wait}
    pick = router.pick(CANDIDATES, closed, waited_s=waited, patience_s=patience)
    if pick.candidate is None:
        assert closed[CANDIDATES[0].name].wait_s is not None
        assert pick.wait_s > 0
        assert len(closed) == len(CANDIDATES) or waited + pick.wait_s <= patience
    else:
        assert pick.candidate.name not in closed


def test_buckets_of_the_catalogue_are_those_of_the_rows() -> None:
    sizes = {each.name: (each.rpm, each.tpm, each.burst) for each in CATALOGUE.models[GPT].buckets}
    assert sizes["provider:openai"] == (500, 1_000_000, 50)
    assert Bucket("x").rpm is None
