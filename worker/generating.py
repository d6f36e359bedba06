"""The step in which a model writes a task's program.

An answer is stored before anything is done with it. A worker that takes the job over after a crash finds it
there, and asks only for what is missing.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from domain.bell import queue_of
from domain.states import Outcome, State
from domain.tasks import Draft, Reason
from worker.broker import Bell
from worker.history import NO_CODE, ended, rounds_of
from worker.model.extract import Extracted, Problem, extract
from worker.model.prompts import Given, conversation, shorten, system_prompt
from worker.model.refine import Plan, Round, Stop, decide, plan, verdict_of
from worker.model.rules import RefineRules
from worker.model.types import Finish, Message
from worker.model.want import (
    AUTO,
    BudgetExceeded,
    CallRecord,
    CallStatus,
    Choice,
    Generated,
    GenerateError,
    NoModel,
    Priority,
    Queued,
    Route,
    Want,
)
from worker.store import ClaimedJob, ClaimedTask
from worker.task_store import TaskEnd, TaskStore

log = logging.getLogger(__name__)


class Generates(Protocol):
    """Whoever asks models."""

    def generate(self, want: Want) -> Generated:
        """An answer; raises GenerateError where there is none."""


class LeaseLost(Exception):
    """Somebody else has the job; the answer is stored for them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, asked for just now or found in the database."""

    text: str
    finish: str
    model: str
    choice: dict[str, Any]


class Generating:
    """Does generating steps. Called from many threads at once."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        bell: Bell,
        models: Generates,
        rules: RefineRules,
        worker: str,
        caller_budget_usd: Decimal | None = None,
    ) -> None:
        self._tasks = tasks
        self._bell = bell
        self._models = models
        self._rules = rules
        self._worker = worker
        self._caller_budget_usd = caller_budget_usd

    def do(self, job: ClaimedJob, task: ClaimedTask) -> None:
        """Get the next program of a task and queue it for a sandbox, or end the task."""
        self._bell.tell(job.id, State.GENERATING)
        rounds = ended(rounds_of(self._tasks, job.id))
        coming = plan(self._rules, rounds)
        try:
            answer, extracted = self._program(job, task, coming)
        except LeaseLost:
            log.warning("lease lost while a model answered", extra={"job_id": str(job.id)})
        except Queued as e:
            self._postpone(job, e)
        except GenerateError as e:
            self._give_up(job, coming, rounds, e)
        else:
            if extracted.code is not None:
                self._hand_over(job, coming.number, answer, extracted.code)
            else:
                self._no_code(job, task, rounds, coming, answer, extracted)

    # --- asking -----------------------------------------------------------------------------------

    def _program(self, job: ClaimedJob, task: ClaimedTask, coming: Plan) -> tuple[Answer, Extracted]:
        stored = [row for row in self._tasks.answers(job.id) if row.round == coming.number]
        messages = conversation(
            self._rules,
            coming,
            language=job.language_name,
            task=task.text,
            check=task.check,
            limits=job.limits,
            given=given_to(job),
        )
        for number in range(self._rules.shorten + 1):
            if number < len(stored):
                answer = _stored(stored[number])
            else:
                answer = self._ask(job, task, coming, messages, shorter=number > 0)
            if answer.finish == Finish.REFUSAL:
                return answer, Extracted(None, Problem.REFUSED)
            cut = answer.finish == Finish.LENGTH
            extracted = extract(answer.text, job.language_name, cut=cut, most=self._rules.extract_most)
            if extracted.problem is not Problem.CUT_OFF:
                break
            messages = shorten(self._rules, messages, answer.text, job.language_name)
        return answer, extracted

    def _ask(
        self, job: ClaimedJob, task: ClaimedTask, coming: Plan, messages: tuple[Message, ...], *, shorter: bool
    ) -> Answer:
        wants = list(self._wants(job, task, coming, messages, shorter=shorter))
        for want in wants[:-1]:
            try:
                return _answer(self._models.generate(want))
            except NoModel as e:
                log.info("no better model: %s", e, extra={"job_id": str(job.id)})
        return _answer(self._models.generate(wants[-1]))

    def _wants(
        self, job: ClaimedJob, task: ClaimedTask, coming: Plan, messages: tuple[Message, ...], *, shorter: bool
    ) -> Iterator[Want]:
        """What is asked for, the best first; the next is for where the one before leaves no model."""
        rules, policy = self._rules, task.policy
        system = system_prompt(job.language, job.profile)
        temperature = policy.temperature
        if temperature is None:
            temperature = rules.fresh_temperature if coming.fresh else rules.temperature
        max_tokens = policy.max_tokens or (rules.shorten_max_tokens if shorter else rules.max_tokens)
        want = Want(
            caller=str(job.caller_id),
            messages=messages,
            job=str(job.id),
            system=system,
            temperature=temperature,
            top_p=policy.top_p,
            max_tokens=max_tokens,
            model=policy.model,
            route=None if policy.route is None else Route(policy.route),
            text=task.text,
            required_accuracy=policy.required_accuracy,
            fallbacks=policy.fallbacks,
            budget_usd=None if task.budget_usd is None else task.budget_usd - self._spent(job, task),
            priority=Priority(job.priority),
            cache=job.cache,
            may_queue=task.age_s < rules.queue_s,
            deadline_s=rules.deadline_s,
            on_call=lambda record: self._record(job, coming.number, system, messages, record),
        )
        budget = self._tasks.budget_of(job.caller_id)
        if budget is None:
            budget = self._caller_budget_usd
        if budget is not None:
            day, spent = self._tasks.spent_today(job.caller_id)
            want = replace(want, caller_budget_usd=budget, caller_spent_usd=spent, caller_day=day)
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

    def _spent(self, job: ClaimedJob, task: ClaimedTask) -> Decimal:
        """All calls so far, also those of this very step."""
        return self._tasks.spent(job.id) if task.budget_usd is not None else task.cost_usd

    def _record(
        self, job: ClaimedJob, round_: int, system: str, messages: tuple[Message, ...], record: CallRecord
    ) -> None:
        prompt = {
            "system": system,
            "messages": [{"role": each.role, "content": each.content} for each in messages],
        }
        if not self._tasks.record_call(job, {"round": round_, "prompt": prompt, **_call_columns(record)}):
            raise LeaseLost

    # --- what follows -----------------------------------------------------------------------------

    def _hand_over(self, job: ClaimedJob, round_: int, answer: Answer, code: str) -> None:
        cost, scripted = self._tasks.round_cost(job.id, round_)
        draft = Draft(code, answer.model, cost_usd=cost, scripted=scripted, choice=answer.choice)
        if self._tasks.hand_over(job, round_, draft):
            self._bell.tell(job.id, State.QUEUED)
            self._bell.ring(job.id, queue_of(State.RUNNING, job.priority, job.runtime))

    def _no_code(
        self,
        job: ClaimedJob,
        task: ClaimedTask,
        rounds: tuple[Round, ...],
        coming: Plan,
        answer: Answer,
        extracted: Extracted,
    ) -> None:
        problem = extracted.problem or Problem.PROSE
        latest = Round(coming.number, problem=problem, answer=answer.text, model=answer.model)
        step = decide(self._rules, task.policy, (*rounds, latest), checked=bool(task.check))
        attempt = self._attempt(job, coming.number, f"{NO_CODE}{problem}", answer)
        if extracted.seen:
            attempt["note"] = f"the answer has blocks in {', '.join(extracted.seen)}"[:500]
        if isinstance(step, Stop):
            self._finish(job, coming.number, step, attempt)
        elif self._tasks.next_round(
            job, coming.number, profile=job.profile, limits=job.limits, attempt=attempt
        ):
            self._bell.tell(job.id, State.QUEUED)
            self._bell.ring(job.id, queue_of(State.GENERATING, job.priority))

    def _give_up(self, job: ClaimedJob, coming: Plan, rounds: tuple[Round, ...], error: GenerateError) -> None:
        known = isinstance(error, BudgetExceeded)
        reason = (Reason.BUDGET_EXCEEDED if known else Reason.MODEL_FAILED).say(error.reason)[:2000]
        log.info("no answer: %s", reason, extra={"job_id": str(job.id)})
        step = Stop(Outcome.FAILED, verdict_of(rounds), reason)
        self._finish(job, coming.number, step, self._attempt(job, coming.number, reason, None))

    def _postpone(self, job: ClaimedJob, error: Queued) -> None:
        reason = f"waits for a model in the batch queue: {error.reason}"[:2000]
        if self._tasks.postpone(job, pause_s=error.retry_in_s, reason=reason):
            self._bell.tell(job.id, State.QUEUED)

    def _finish(self, job: ClaimedJob, round_: int, step: Stop, attempt: dict[str, Any]) -> None:
        end = TaskEnd(step.verdict, step.outcome, step.reason, attempt["model"])
        if self._tasks.finish(job, round_, end, attempt=attempt):
            self._bell.tell(job.id, State.FINISHED)

    def _attempt(self, job: ClaimedJob, round_: int, failure: str, answer: Answer | None) -> dict[str, Any]:
        """An attempt that never had a program."""
        cost, scripted = self._tasks.round_cost(job.id, round_)
        return {
            "failure": failure,
            "stdout": b"",
            "stderr": b"",
            "stdout_bytes": 0,
            "stderr_bytes": 0,
            "worker": self._worker,
            "profile": job.profile,
            "limits": job.limits.as_dict(),
            "round": round_,
            "model": None if answer is None else answer.model,
            "choice": None if answer is None else answer.choice,
            "cost_usd": cost,
            "scripted": scripted,
        }


def _answer(generated: Generated) -> Answer:
    answer = generated.answer
    return Answer(answer.text, answer.finish, answer.model, choice_document(generated.choice))


def given_to(job: ClaimedJob) -> Given:
    """What a model is told of a job's inputs."""
    files = tuple((str(each["name"]), int(each["size"])) for each in job.files)
    return Given(bool(job.stdin), files, job.args, tuple(sorted(job.env)))


def choice_document(choice: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    return {
        "model": choice.model,
        "gateway": choice.gateway,
        "reason": choice.reason,
        "skipped": [
            {"model": each.model, "gateway": each.gateway, "reason": each.reason} for each in choice.skipped
        ],
    }


def _stored(row: Any) -> Answer:
    choice = {
        "model": row.model,
        "gateway": row.gateway,
        "reason": "its answer had been stored before a worker was lost",
        "skipped": [],
    }
    return Answer(row.answer, row.finish or Finish.LENGTH, row.model, choice)


def _call_columns(record: CallRecord) -> dict[str, Any]:
    usage = record.usage
    return {
        "gateway": record.gateway,
        "model": record.model,
        "model_version": record.model_version,
        "request_id": record.request_id,
        "parameters": {
            "temperature": record.temperature,
            "top_p": record.top_p,
            "max_tokens": record.max_tokens,
            "number": record.number,
            "retry": record.retry,
            "status": record.status.value,
            "waited_s": round(record.waited_s, 6),
        },
        "answer": record.text if record.failure is None else None,
        "finish": record.finish,
        "failure": record.failure,
        "detail": record.detail,
        "status": record.http_status,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
        "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
        "estimated": usage is not None and usage.estimated,
        "price": None if record.price is None else record.price.as_dict(),
        "cost_usd": record.cost_usd,
        "latency_s": record.latency_s,
        "first_byte_s": record.first_byte_s,
        "cache_hit": record.status in (CallStatus.CACHED, CallStatus.SHARED),
        "scripted": record.scripted,
    }
