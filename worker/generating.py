"""The step in which a model writes a task's program.

An answer is stored before anything is done with it. A worker that takes the job over after a crash finds it
there, and asks only for what is missing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol

from domain.bell import queue_of
from domain.states import Outcome, State
from domain.tasks import Draft, Reason
from worker import faults
from worker.broker import Bell
from worker.calls import Answer, answer_of, call_columns, stored_answer, tell
from worker.claimed import ClaimedJob, ClaimedTask
from worker.history import NO_CODE, ended, rounds_of
from worker.model import reading
from worker.model.extract import Extracted, Problem, extract
from worker.model.prompts import Given, conversation, shorten, system_prompt
from worker.model.refine import Plan, Round, Stop, decide, plan, verdict_of
from worker.model.rules import RefineRules
from worker.model.types import Finish, Message
from worker.model.want import (
    AUTO,
    BudgetExceeded,
    CallRecord,
    ContextTooLong,
    Generated,
    GenerateError,
    NoModel,
    Priority,
    Queued,
    Route,
    Want,
)
from worker.task_store import TaskEnd, TaskStore

log = logging.getLogger(__name__)


class Generates(Protocol):
    """Whoever asks models."""

    def generate(self, want: Want) -> Generated:
        """An answer; raises GenerateError where there is none."""


class LeaseLost(Exception):
    """Somebody else has the job; the answer is stored for them."""


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
        caller_tokens_per_minute: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._bell = bell
        self._models = models
        self._rules = rules
        self._worker = worker
        self._caller_budget_usd = caller_budget_usd
        self._caller_tokens_per_minute = caller_tokens_per_minute

    def do(self, job: ClaimedJob, task: ClaimedTask) -> None:
        """Get the next program of a task and queue it for a sandbox, or end the task."""
        self._bell.tell(job.id, State.GENERATING)
        faults.at("asking", job.id)
        rounds = ended(rounds_of(self._tasks, job.id)) if task.round else ()  # most tasks have none yet
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
        try:
            return self._written(job, task, coming, task.text)
        except ContextTooLong as e:  # known before anything is asked
            notes = self._notes(job, task, coming, e.most_tokens)
            if notes is None:
                raise
        return self._written(job, task, coming, notes)

    def _written(self, job: ClaimedJob, task: ClaimedTask, coming: Plan, text: str) -> tuple[Answer, Extracted]:
        """The answer to a task in these words, and the program in it."""
        stored = [
            row
            for row in self._answers(job, task)
            if row.round == coming.number and reading.marked(row.parameters) is None
        ]
        messages = conversation(
            self._rules,
            coming,
            language=job.language_name,
            task=text,
            check=task.check,
            limits=job.limits,
            given=given_to(job),
        )
        for number in range(self._rules.shorten + 1):
            if number < len(stored):
                answer = stored_answer(stored[number])
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

    def _answers(self, job: ClaimedJob, task: ClaimedTask) -> Sequence[Any]:
        """The stored answers of before; most tasks have none."""
        return self._tasks.answers(job.id) if task.asked else ()

    def _notes(self, job: ClaimedJob, task: ClaimedTask, coming: Plan, context_tokens: int) -> str | None:
        """What a model noted of a task that is too long for it; None where it cannot be read in chunks.

        Notes that are stored, of a round before or of a worker that was lost, are not asked for again.
        """
        chunks = reading.cut(self._rules, task.text, context_tokens)
        if not chunks:
            return None
        stored = {reading.marked(row.parameters): str(row.answer) for row in self._answers(job, task)}
        notes: list[str] = []
        for chunk in chunks:
            found = stored.get((chunk.number, chunk.of))
            if found is None:
                want = self._want(
                    job,
                    task,
                    coming,
                    reading.question(chunk, notes[-1] if notes else ""),
                    system=reading.system(chunk),
                    max_tokens=self._rules.notes_tokens,
                    mark=reading.mark(chunk),
                )
                found = self._models.generate(want).answer.text
            notes.append(found)
        return reading.digest(task.text, notes)

    def _ask(
        self, job: ClaimedJob, task: ClaimedTask, coming: Plan, messages: tuple[Message, ...], *, shorter: bool
    ) -> Answer:
        wants = list(self._wants(job, task, coming, messages, shorter=shorter))
        for want in wants[:-1]:
            try:
                return answer_of(self._models.generate(want))
            except NoModel as e:
                log.info("no better model: %s", e, extra={"job_id": str(job.id)})
        return answer_of(self._models.generate(wants[-1]))

    def _wants(
        self, job: ClaimedJob, task: ClaimedTask, coming: Plan, messages: tuple[Message, ...], *, shorter: bool
    ) -> Iterator[Want]:
        """What is asked for, the best first; the next is for where the one before leaves no model."""
        rules, policy = self._rules, task.policy
        system = system_prompt(job.language, job.profile)
        max_tokens = policy.max_tokens or (rules.shorten_max_tokens if shorter else rules.max_tokens)
        want = self._want(job, task, coming, messages, system=system, max_tokens=max_tokens)
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

    def _want(
        self,
        job: ClaimedJob,
        task: ClaimedTask,
        coming: Plan,
        messages: tuple[Message, ...],
        *,
        system: str,
        max_tokens: int,
        mark: Mapping[str, Any] = MappingProxyType({}),
    ) -> Want:
        """An answer wanted for a job, under its policy; `mark` is kept with the parameters of its calls."""
        rules, policy = self._rules, task.policy
        temperature = policy.temperature
        if temperature is None:
            temperature = rules.fresh_temperature if coming.fresh else rules.temperature
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
            on_call=lambda record: self._record(job, coming.number, system, messages, record, mark),
        )
        tokens = task.caller_tokens_per_minute or self._caller_tokens_per_minute
        want = replace(want, caller_tokens_per_minute=tokens)
        budget = self._caller_budget_usd if task.caller_budget_usd is None else task.caller_budget_usd
        if budget is None:
            return want
        day, spent = self._tasks.spent_today(job.caller_id)
        return replace(want, caller_budget_usd=budget, caller_spent_usd=spent, caller_day=day)

    def _spent(self, job: ClaimedJob, task: ClaimedTask) -> Decimal:
        """All calls so far, also those of this very step."""
        return self._tasks.spent(job.id) if task.budget_usd is not None else task.cost_usd

    def _record(
        self,
        job: ClaimedJob,
        round_: int,
        system: str,
        messages: tuple[Message, ...],
        record: CallRecord,
        mark: Mapping[str, Any],
    ) -> None:
        prompt = {
            "system": system,
            "messages": [{"role": each.role, "content": each.content} for each in messages],
        }
        call = call_columns(record)
        call["parameters"] |= mark
        tell(record)
        faults.at("answered", job.id)
        if not self._tasks.record_call(job, {"round": round_, "prompt": prompt, **call}):
            raise LeaseLost
        faults.at("stored", job.id)

    # --- what follows -----------------------------------------------------------------------------

    def _hand_over(self, job: ClaimedJob, round_: int, answer: Answer, code: str) -> None:
        if self._tasks.hand_over(job, round_, Draft(code, answer.model, choice=answer.choice)):
            self._bell.queued(job.id, queue_of(State.RUNNING, job.priority, job.runtime))

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
            self._bell.queued(job.id, queue_of(State.GENERATING, job.priority))

    def _give_up(self, job: ClaimedJob, coming: Plan, rounds: tuple[Round, ...], error: GenerateError) -> None:
        known = isinstance(error, BudgetExceeded)
        reason = (Reason.BUDGET_EXCEEDED if known else Reason.MODEL_FAILED).say(error.reason)[:2000]
        log.info("no answer: %s", reason, extra={"job_id": str(job.id)})
        step = Stop(Outcome.FAILED, verdict_of(rounds), reason)
        self._finish(job, coming.number, step, self._attempt(job, coming.number, reason, None))

    def _postpone(self, job: ClaimedJob, error: Queued) -> None:
        where = "waits" if error.callers else "waits for a model in the batch queue"
        reason = f"{where}: {error.reason}"[:2000]
        if self._tasks.postpone(job, pause_s=error.retry_in_s, reason=reason, batch=not error.callers):
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


def given_to(job: ClaimedJob) -> Given:
    """What a model is told of a job's inputs."""
    files = tuple((str(each["name"]), int(each["size"])) for each in job.files)
    return Given(bool(job.stdin), files, job.args, tuple(sorted(job.env)))
