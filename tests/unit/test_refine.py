"""The policy of refinement: when to stop, and how to ask again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.limits import load_profiles
from domain.states import Outcome, Verdict
from domain.tasks import UNUSABLE, Draft, Policy, Reason
from worker.model.extract import Problem
from worker.model.refine import Again, Round, Stop, decide, fingerprint, plan, signature, verdict_of
from worker.model.rules import RefineRules, load_refine_rules

RULES = load_refine_rules()
POLICY = Policy()
LIMITS = load_profiles()["standard"].defaults


def ran(number: int, verdict: str = "error", said: str = "", **values: object) -> Round:
    """A program of its own that ended so."""
    stderr = said.encode() or f"ValueError: {number}".encode()
    usual: dict[str, object] = {"code": f"x = {number}\n", "stdout_bytes": 1, "limits": LIMITS}
    return Round(number, **{**usual, "verdict": verdict, "stderr": stderr, **values})  # type: ignore[arg-type]


def test_the_file_has_the_numbers_of_the_code() -> None:
    assert load_refine_rules() == RefineRules()


@pytest.mark.parametrize(
    ("last", "checked", "outcome"),
    [
        (ran(1, "ok"), False, Outcome.RAN),
        (ran(1, "ok", check_passed=True), True, Outcome.PASSED),
    ],
)
def test_success(last: Round, checked: bool, outcome: Outcome) -> None:
    assert decide(RULES, POLICY, [last], checked=checked) == Stop(outcome, "ok")


@pytest.mark.parametrize("verdict", [v.value for v in Verdict if v not in (Verdict.OK, Verdict.NO_CODE)])
def test_a_first_failure_is_tried_again(verdict: str) -> None:
    assert decide(RULES, POLICY, [ran(1, verdict)], checked=True) == Again()


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ([ran(1), ran(2), ran(3), ran(4)], Reason.ATTEMPTS_USED),
        ([ran(1), ran(2, code="x = 1\n\n")], Reason.SAME_CODE),
        ([ran(1, said="E: a 0x7f00000001"), ran(2, said="E: a 0x7f00000002")], Reason.SAME_ERROR),
        ([ran(1, said="E: a"), ran(2), ran(3, said="E: a")], Reason.SAME_ERROR),
        ([Round(1, problem=Problem.REFUSED)], Reason.NO_CODE),
        ([Round(1, problem=Problem.PROSE), Round(2, problem=Problem.PROSE)], Reason.NO_CODE),
        ([ran(1, "check_failed", note=f"{UNUSABLE}: x")], Reason.CHECK_UNUSABLE),
        ([ran(1, "timeout"), ran(2, "timeout")], Reason.SAME_ERROR),
    ],
)
def test_when_to_stop(rounds: list[Round], reason: Reason) -> None:
    step = decide(RULES, POLICY, rounds, checked=True)
    assert isinstance(step, Stop)
    assert step.outcome is Outcome.FAILED
    assert step.reason is not None
    assert step.reason.startswith(f"{reason}: ")


def test_a_timeout_under_other_limits_is_another_failure() -> None:
    larger = replace(LIMITS, timeout_s=120)
    rounds = [ran(1, "timeout"), ran(2, "timeout", limits=larger)]
    assert decide(RULES, POLICY, rounds, checked=False) == Again()


def test_the_larger_profile_only_where_allowed_and_there() -> None:
    allowed = replace(POLICY, larger_profile=True)
    for verdict, policy, larger, expected in [
        ("timeout", allowed, True, True),
        ("out_of_memory", allowed, True, True),
        ("error", allowed, True, False),
        ("timeout", POLICY, True, False),
        ("timeout", allowed, False, False),
    ]:
        step = decide(RULES, policy, [ran(1, verdict)], checked=False, larger=larger)
        assert step == Again(larger=expected)


def test_silence_is_tried_again_and_accepted_at_last() -> None:
    silent = ran(1, "ok", stdout_bytes=0)
    assert decide(RULES, POLICY, [silent], checked=False) == Again()
    assert decide(RULES, replace(POLICY, max_attempts=1), [silent], checked=False) == Stop(Outcome.RAN, "ok")
    assert decide(replace(RULES, silent_is_wrong=False), POLICY, [silent], checked=False) == Stop(
        Outcome.RAN, "ok"
    )
    assert decide(RULES, POLICY, [replace(silent, check_passed=True)], checked=True) == Stop(
        Outcome.PASSED, "ok"
    )


def test_the_verdict_of_a_task_is_that_of_its_last_program() -> None:
    assert verdict_of([]) == "no_code"
    assert verdict_of([Round(1, problem=Problem.PROSE)]) == "no_code"
    assert verdict_of([ran(1, "timeout"), Round(2, problem=Problem.PROSE)]) == "timeout"


def test_how_each_round_is_asked_for() -> None:
    rounds = [ran(n) for n in range(1, 6)]
    plans = [plan(RULES, rounds[:n]) for n in range(6)]
    assert [p.number for p in plans] == [1, 2, 3, 4, 5, 6]
    assert [p.fresh for p in plans] == [False, False, True, False, False, False]
    assert [p.escalate for p in plans] == [False, False, False, True, True, True]
    assert [len(p.shown) for p in plans] == [0, 1, 0, 1, 2, 3]
    assert [len(p.summed_up) for p in plans] == [0, 0, 2, 2, 2, 2]
    never = replace(RULES, fresh_at=0, escalate_at=0)
    assert [len(plan(never, rounds[:n]).shown) for n in range(6)] == [0, 1, 2, 3, 4, 5]


_problems = st.sampled_from(list(Problem))
_verdicts = st.sampled_from([v.value for v in Verdict if v is not Verdict.NO_CODE])


@st.composite
def _rounds(draw: st.DrawFn) -> list[Round]:
    found = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        if draw(st.booleans()):
            found.append(Round(number, problem=draw(_problems)))
        else:
            code = f"x = {draw(st.integers(0, 5))}"
            verdict = draw(_verdicts)
            passed = draw(st.sampled_from([None, True, False]))
            found.append(
                ran(
                    number, verdict, said=draw(st.sampled_from(["a", "b", "c"])), code=code, check_passed=passed
                )
            )
    return found


@given(_rounds(), st.integers(1, 10), st.booleans(), st.booleans())
def test_it_always_ends_and_never_lies(rounds: list[Round], most: int, checked: bool, larger: bool) -> None:
    policy = replace(POLICY, max_attempts=most, larger_profile=larger)
    step = decide(RULES, policy, rounds, checked=checked, larger=larger)
    last = rounds[-1]
    if len(rounds) >= most:
        assert isinstance(step, Stop)
    if isinstance(step, Stop):
        good = step.outcome in (Outcome.RAN, Outcome.PASSED)
        assert good == (step.reason is None)
        assert good == (last.verdict == "ok" and (not checked or last.check_passed is True))
        assert (step.outcome is Outcome.PASSED) <= checked
        assert step.verdict == verdict_of(rounds)
    elif step.larger:
        assert last.verdict in ("timeout", "out_of_memory")


@given(_rounds())
def test_plans_show_every_round_once(rounds: list[Round]) -> None:
    coming = plan(RULES, rounds)
    assert [*coming.summed_up, *coming.shown] == rounds


@given(st.text(alphabet="ab \n", max_size=30))
def test_blank_lines_and_line_ends_change_no_program(code: str) -> None:
    assert fingerprint(code) == fingerprint("\n".join(line + " " for line in code.split("\n")) + "\n\n")


def test_failures_that_look_alike() -> None:
    one = ran(1, said="Traceback\nValueError: at 0x7f0011223344")
    assert signature(one) == signature(
        replace(one, number=2, code="other", stderr=one.stderr.replace(b"3", b"4"))
    )
    assert signature(one) != signature(replace(one, exit_code=2))
    assert signature(one) != signature(replace(one, note="line 1 of the output is 'x'"))


def test_what_is_stored_is_read_back() -> None:
    policy = Policy(model="gpt-4.1", fallbacks=("a", "b"), max_attempts=2, larger_profile=True)
    assert Policy.of({**policy.as_dict(), "of_a_later_version": 1}) == policy
    draft = Draft("x", "gpt-4.1", cost_usd=None, choice={"reason": "r"})
    assert Draft.of(draft.as_dict()) == draft
