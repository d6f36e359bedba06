"""The step in which a model writes a task's program.

An answer is stored before anything is done with it, and with it, in one statement, that the job waits for a
sandbox, if there is a program in it. A worker that takes a job over after a crash finds the answers of before,
and asks only for what is missing.
"""

import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

from domain.bell import queue_of
from domain.states import Outcome, State
from domain.tasks import Draft, Reason
from worker import faults
from worker.broker import Bell
from worker.calls import Answer, Found, answer_of, call_columns, draft_of, stored_answer, tell
from worker.claimed import ClaimedJob, ClaimedTask
from worker.history import NO_CODE, ended, rounds_of
from worker.model import reading
from worker.model.extract import Extracted, Problem, extract
from worker.model.prompts import Given, conversation, shorten, system_prompt
from worker.model.refine import Plan, Round, Stop, decide, plan, verdict_of
from worker.model.rules import RefineRules
from worker.model.types import Finish
from worker.model.want import (
    BudgetExceeded,
    CallRecord,
    ContextTooLong,
    Generated,
    GenerateError,
    NoModel,
    Queued,
    Want,
)
from worker.task_store import TaskEnd, TaskStore
from worker.wanting import Question, Wanting

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
        self._wanting = Wanting(
            tasks,
            rules,
            caller_budget_usd=caller_budget_usd,
            caller_tokens_per_minute=caller_tokens_per_minute,
        )
        self._worker = worker

    def do(self, job: ClaimedJob, task: ClaimedTask) -> None:
        """Get the next program of a task and queue it for a sandbox, or end the task."""
        self._bell.tell(job.id, State.GENERATING)
        faults.at("asking", job.id)
        rounds = ended(rounds_of(self._tasks, job.id)) if task.round else ()  # most tasks have none yet
        coming = plan(self._rules, rounds)
        try:
            found = self._program(job, task, coming)
        except LeaseLost:
            log.warning("lease lost while a model answered", extra={"job_id": str(job.id)})
        except Queued as e:
            self._postpone(job, e)
        except GenerateError as e:
            self._give_up(job, coming, rounds, e)
        else:
            if found.extracted.code is None:
                self._no_code(job, task, rounds, coming, found)
            elif not found.handed_over:  # its answer was stored before
                self._hand_over(job, coming.number, draft_of(found, found.extracted.code))

    # --- asking -----------------------------------------------------------------------------------

    def _program(self, job: ClaimedJob, task: ClaimedTask, coming: Plan) -> Found:
        try:
            return self._written(job, task, coming, task.text)
        except ContextTooLong as e:  # known before anything is asked
            notes = self._notes(job, task, coming, e.most_tokens)
            if notes is None:
                raise
        return self._written(job, task, coming, notes)

    def _written(self, job: ClaimedJob, task: ClaimedTask, coming: Plan, text: str) -> Found:
        """The answer to a task in these words, and the program in it."""
        stored = [
            row
            for row in self._answers(job, task)
            if row.round == coming.number and reading.marked(row.parameters) is None
        ]
        rules, system = self._rules, system_prompt(job.language, job.profile)
        messages = conversation(
            rules,
            coming,
            language=job.language_name,
            task=text,
            check=task.check,
            limits=job.limits,
            given=given_to(job),
        )
        for number in range(rules.shorten + 1):
            if number < len(stored):
                answer = stored_answer(stored[number])
                found = Found(answer, self._extracted(job, answer))
            else:
                usual = rules.shorten_max_tokens if number else rules.max_tokens
                most = task.policy.max_tokens or usual
                found = self._ask(Question(job, task, coming, system, messages, most))
            if found.extracted.problem is not Problem.CUT_OFF:
                break
            messages = shorten(rules, messages, found.answer.text, job.language_name)
        return found

    def _extracted(self, job: ClaimedJob, answer: Answer) -> Extracted:
        if answer.finish == Finish.REFUSAL:
            return Extracted(None, Problem.REFUSED)
        cut = answer.finish == Finish.LENGTH
        return extract(answer.text, job.language_name, cut=cut, most=self._rules.extract_most)

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
                messages = reading.question(chunk, notes[-1] if notes else "")
                most, mark = self._rules.notes_tokens, reading.mark(chunk)
                asked = Question(job, task, coming, reading.system(chunk), messages, most, mark)
                found = self._noted(asked)
            notes.append(found)
        return reading.digest(task.text, notes)

    def _noted(self, question: Question) -> str:
        want = self._wanting.one_of(question, lambda record, _: self._record(question, record))
        return self._models.generate(want).answer.text

    def _ask(self, question: Question) -> Found:
        """Ask for a program. It is handed over while its answer is stored."""
        found: Found | None = None

        def called(record: CallRecord, generated: Generated | None) -> None:
            nonlocal found
            if generated is not None:
                answer = answer_of(generated)
                try:
                    found = Found(answer, self._extracted(question.job, answer))
                except Exception:
                    self._record(question, record)  # whatever it is, it was paid for
                    raise
            self._record(question, record, found)

        wants = list(self._wanting.all_of(question, called))
        for want in wants:
            try:
                self._models.generate(want)
            except GenerateError as e:
                if found is not None:
                    break  # what failed came after the answer, and concerns others
                if not isinstance(e, NoModel) or want is wants[-1]:
                    raise
                log.info("no better model: %s", e, extra={"job_id": str(question.job.id)})
            else:
                break
        if found is None:
            raise RuntimeError("an answer came without a call")
        return found

    def _record(self, question: Question, record: CallRecord, found: Found | None = None) -> None:
        """Store a call, and hand over the program that its answer has."""
        job, round_ = question.job, question.coming.number
        prompt = {
            "system": question.system,
            "messages": [{"role": each.role, "content": each.content} for each in question.messages],
        }
        call = call_columns(record)
        call["parameters"] |= question.mark
        call |= {"round": round_, "prompt": prompt}
        tell(record)
        code = None if found is None else found.extracted.code
        faults.at("answered", job.id)
        if found is None or code is None:
            held = self._tasks.record_call(job, call)
        else:
            held = found.handed_over = self._tasks.record_and_hand_over(job, call, draft_of(found, code))
        if not held:
            raise LeaseLost
        faults.at("stored", job.id)
        if code is not None:
            self._ring(job)

    # --- what follows -----------------------------------------------------------------------------

    def _hand_over(self, job: ClaimedJob, round_: int, draft: Draft) -> None:
        if self._tasks.hand_over(job, round_, draft):
            self._ring(job)

    def _ring(self, job: ClaimedJob) -> None:
        self._bell.queued(job.id, queue_of(State.RUNNING, job.priority, job.runtime))

    def _no_code(
        self, job: ClaimedJob, task: ClaimedTask, rounds: tuple[Round, ...], coming: Plan, found: Found
    ) -> None:
        answer, extracted = found.answer, found.extracted
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
