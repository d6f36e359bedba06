"""What a task's step wants of models: a question's policy, and what its answer may cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from worker.claimed import ClaimedJob, ClaimedTask
from worker.model.refine import Plan
from worker.model.rules import RefineRules
from worker.model.types import Message
from worker.model.want import AUTO, OnCall, Priority, Route, Want
from worker.task_store import TaskStore


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked in one step of a task; `mark` is kept with the parameters of its calls."""

    job: ClaimedJob
    task: ClaimedTask
    coming: Plan
    system: str
    messages: tuple[Message, ...]
    max_tokens: int
    mark: Mapping[str, Any] = field(default_factory=dict)


class Wanting:
    """Makes wants of questions. The limits are those of callers who have none of their own."""

    def __init__(
        self,
        tasks: TaskStore,
        rules: RefineRules,
        *,
        caller_budget_usd: Decimal | None,
        caller_tokens_per_minute: int | None,
    ) -> None:
        self._tasks = tasks
        self._rules = rules
        self._caller_budget_usd = caller_budget_usd
        self._caller_tokens_per_minute = caller_tokens_per_minute

    def all_of(self, question: Question, on_call: OnCall) -> Iterator[Want]:
        """What is wanted, the best first; the next is for where the one before leaves no model."""
        policy, coming = question.task.policy, question.coming
        want = self.one_of(question, on_call)
        if coming.escalate:
            used = frozenset(each.model for each in (*coming.summed_up, *coming.shown) if each.model)
            if policy.model == AUTO:
                yield replace(want, role="accuracy", avoid=used)
                yield replace(want, role="accuracy")
            elif policy.fallbacks:
                unused = [name for name in policy.fallbacks if name not in used]
                if unused:
                    yield replace(want, model=unused[0], fallbacks=(*unused[1:], policy.model))
        yield want

    def one_of(self, question: Question, on_call: OnCall) -> Want:
        """An answer wanted for a job, under its policy alone."""
        job, task, rules = question.job, question.task, self._rules
        policy = task.policy
        temperature = policy.temperature
        if temperature is None:
            temperature = rules.fresh_temperature if question.coming.fresh else rules.temperature
        want = Want(
            caller=str(job.caller_id),
            messages=question.messages,
            job=str(job.id),
            system=question.system,
            temperature=temperature,
            top_p=policy.top_p,
            max_tokens=question.max_tokens,
            model=policy.model,
            route=None if policy.route is None else Route(policy.route),
            text=task.text,
            required_accuracy=policy.required_accuracy,
            fallbacks=policy.fallbacks,
            budget_usd=None if task.budget_usd is None else task.budget_usd - self._tasks.spent(job.id),
            caller_tokens_per_minute=task.caller_tokens_per_minute or self._caller_tokens_per_minute,
            priority=Priority(job.priority),
            cache=job.cache,
            may_queue=task.age_s < rules.queue_s,
            deadline_s=rules.deadline_s,
            on_call=on_call,
        )
        budget = self._caller_budget_usd if task.caller_budget_usd is None else task.caller_budget_usd
        if budget is None:
            return want
        day, spent = self._tasks.spent_today(job.caller_id)
        return replace(want, caller_budget_usd=budget, caller_spent_usd=spent, caller_day=day)
