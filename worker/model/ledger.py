"""What happened so far in one `generate`: calls made, candidates left, reasons, money; and how it may end."""

from decimal import Decimal

from worker.model import router
from worker.model.router import Candidate, Plan
from worker.model.types import ModelAnswer, ModelError
from worker.model.want import (
    BudgetExceeded,
    CallRecord,
    CallStatus,
    Choice,
    Generated,
    GenerateError,
    ModelsFailed,
    Queued,
    Skip,
    Want,
)


class Ledger:
    """The books of one `generate`.

    Attributes:
        plan: the candidates that may still answer.
        left_usd: what the job may still spend; None: as much as it likes.
        last: the latest failure.
        transient: whether a candidate was given up that may be well again later.
        over_budget: whether one was given up for want of money.
    """

    def __init__(self, want: Want, plan: Plan) -> None:
        self._want = want
        self.plan = plan
        self.left_usd = want.budget_usd
        self.last: ModelError | None = None
        self.transient = False
        self.over_budget = False
        self._records: list[CallRecord] = []
        self._latest: dict[str, Skip] = {}

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Those that may still answer, best first."""
        return self.plan.candidates

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """The calls so far."""
        return tuple(self._records)

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """Every candidate that was left out or passed over, with the latest reason."""
        return (*self.plan.skipped, *self._latest.values())

    @property
    def cost_usd(self) -> Decimal | None:
        """Of all calls; None where an answer has no known price. What a failed call cost may not be known."""
        if any(each.status is CallStatus.OK and each.cost_usd is None for each in self._records):
            return None
        return sum((each.cost_usd or Decimal(0) for each in self._records), Decimal(0))

    def tries(self, candidate: Candidate) -> int:
        """Calls made to it so far."""
        return sum(
            each.model == candidate.model.name and each.gateway == candidate.gateway.name
            for each in self._records
        )

    def add(self, record: CallRecord) -> None:
        """Enter a call."""
        self._records.append(record)
        if self.left_usd is not None and record.cost_usd is not None:
            self.left_usd -= record.cost_usd

    def note(self, skipped: tuple[Skip, ...]) -> None:
        """Enter why candidates were passed over."""
        self._latest |= {f"{skip.gateway}/{skip.model}": skip for skip in skipped}

    def drop(self, candidate: Candidate, reason: str) -> None:
        """Give a candidate up."""
        self.note((Skip(candidate.model.name, candidate.gateway.name, reason),))
        self.plan = router.without(self.plan, candidate.name)

    def generated(self, answer: ModelAnswer, reason: str) -> Generated:
        """The good end."""
        passed_over = tuple(
            skip for skip in self.skipped if (skip.model, skip.gateway) != (answer.model, answer.gateway)
        )
        choice = Choice(answer.model, answer.gateway, reason, passed_over)
        return Generated(answer, choice, self.calls, self.cost_usd)

    def no_room(self, wait_s: float, *, callers: bool = False) -> GenerateError:
        """The end when waiting longer is no use; `callers`: what must be waited for is a limit of its own."""
        reason = f"no model can be asked now ({self._reasons() or 'others wait in line'})"
        if not self._want.may_queue:
            return ModelsFailed(reason, self.skipped, self.calls, self.last)
        return Queued(reason, self.skipped, self.calls, wait_s, self.last, callers)

    def nothing_left(self, retry_in_s: float) -> GenerateError:
        """The end when no candidate is left."""
        if self.over_budget and not self.transient:
            return BudgetExceeded(f"the budget ends here ({self._reasons()})", self.skipped, self.calls)
        reason = f"every model failed ({self._reasons()})"
        if self.transient and self._want.may_queue:
            return Queued(reason, self.skipped, self.calls, retry_in_s, self.last)
        return ModelsFailed(reason, self.skipped, self.calls, self.last)

    def _reasons(self) -> str:
        return "; ".join(f"{skip.model}: {skip.reason}" for skip in self._latest.values())
