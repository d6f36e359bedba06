"""What a strict gateway makes of the requests that it got: its limits, the retries, the breaker. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

RATE_LIMITED = 429
OVERLOADED = 529

#: What the first bound of the mission allows: one request in flight more than the limits say.
SPARE = 1


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a gateway: per window of `window_s` seconds, and under way at once. And what clients may do."""

    window_s: float = 0.6
    requests: int = 60
    tokens: int = 100_000
    at_once: int = 30
    retries: int = 5
    threshold: int = 5  # failures after which nobody should call


@dataclass(frozen=True, slots=True)
class Seen:
    """A request: its question, when it came and when it was answered (seconds of one clock), and with what."""

    question: str
    arrived: float
    answered: float
    status: int
    tokens: int = 0
    retry_after_s: float = 0.0


@dataclass(slots=True)
class Findings:
    """What was counted, and what of it was wrong, a sentence each."""

    requests: int = 0
    questions: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    most_requests: int = 0
    most_tokens: int = 0
    most_at_once: int = 0
    most_tries: int = 0
    probe_after_s: float | None = None
    wrong: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(rules: Rules, seen: Iterable[Seen], *, outage: bool = True) -> Findings:
    """Judge all requests of a run; `outage`: whether the gateway was away once, with OVERLOADED."""
    seen = sorted(seen, key=lambda each: each.arrived)
    found = Findings(len(seen), statuses=dict(Counter(str(each.status) for each in seen)))
    if not seen:
        found.wrong.append("no request came")
        return found
    found.most_requests = _most_in_a_window(seen, rules.window_s, lambda _: 1)
    found.most_tokens = _most_in_a_window(seen, rules.window_s, lambda each: each.tokens)
    found.most_at_once = _most_at_once(seen)
    _bound(found, "requests in a window", found.most_requests, rules.requests + SPARE)
    _bound(found, "tokens in a window", found.most_tokens, rules.tokens + max(each.tokens for each in seen))
    _bound(found, "requests under way at once", found.most_at_once, rules.at_once + SPARE)
    _retries(rules, seen, found)
    if outage:
        _breaker(rules, seen, found)
    return found


def _bound(found: Findings, what: str, value: int, most: int) -> None:
    if value > most:
        found.wrong.append(f"{value} {what}, at most {most} are allowed")


def _most_in_a_window(seen: Sequence[Seen], window_s: float, weight: Callable[[Seen], int]) -> int:
    """The most in any window of this length, wherever it begins."""
    most = inside = first = 0
    for each in seen:
        inside += weight(each)
        while seen[first].arrived <= each.arrived - window_s:
            inside -= weight(seen[first])
            first += 1
        most = max(most, inside)
    return most


def _most_at_once(seen: Sequence[Seen]) -> int:
    # What ends at the moment at which another begins is not under way with it.
    moves = sorted([(each.arrived, 1) for each in seen] + [(each.answered, -1) for each in seen])
    most = now = 0
    for _, step in moves:
        now += step
        most = max(most, now)
    return most


def _retries(rules: Rules, seen: Sequence[Seen], found: Findings) -> None:
    """Each question is asked again only after a failure, not too often, and not before it was asked to."""
    by_question: defaultdict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        by_question[each.question].append(each)
    found.questions = len(by_question)
    for question, tries in by_question.items():
        found.most_tries = max(found.most_tries, len(tries))
        if len(tries) > 1 + rules.retries:
            found.wrong.append(f"{question} was asked {len(tries)} times")
        got = [each.status for each in tries]
        if got.count(200) != 1 or got[-1] != 200:
            found.wrong.append(f"{question} got {got}: one answer, at the end, is right")
        for one, other in pairwise(tries):
            if other.arrived < one.answered + one.retry_after_s:
                early = one.answered + one.retry_after_s - other.arrived
                found.wrong.append(f"{question} came back {early:.3f} s before it was to")


def _breaker(rules: Rules, seen: Sequence[Seen], found: Findings) -> None:
    """After an outage, the first that gets an answer must be alone until it has it."""
    failures = [each for each in seen if each.status == OVERLOADED]
    if len(failures) < rules.threshold:
        found.wrong.append(f"{len(failures)} failures are no outage; {rules.threshold} open a breaker")
        return
    last = failures[-1]
    after = [each for each in seen if each.arrived > last.arrived]
    if not after:
        found.wrong.append("nobody came back after the outage")
        return
    probe = after[0]
    found.probe_after_s = round(probe.arrived - last.answered, 3)
    beside = [each for each in after[1:] if each.arrived < probe.answered]
    beside += [each for each in seen if each.arrived < probe.arrived < each.answered]
    if beside:
        found.wrong.append(f"{len(beside)} requests beside the one that probed")
