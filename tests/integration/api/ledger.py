"""Jobs of one caller that are put into the database by hand, for tests of what is made of them."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from domain.ids import new_id
from domain.tables.caller import callers
from tests.integration.api.harness import Store


class Ledger:
    """A caller's rows."""

    def __init__(self, store: Store, caller: str) -> None:
        self.store = store
        with store.engine.begin() as connection:
            found = select(callers.c.id).where(callers.c.name == caller)
            self.caller: UUID = connection.execute(found).scalar_one()

    def job_row(self, job_id: UUID) -> dict[str, Any]:
        """What the row of a job must have, of one that has ended."""
        return {
            "id": job_id,
            "caller_id": self.caller,
            "code": "1",
            "language": "python",
            "profile": "standard",
            "limits": {},
            "state": "finished",
        }

    def call_row(self, job_id: UUID, cost: str | None) -> dict[str, Any]:
        """The row of a question to a model, of 100 tokens, and 10 in the answer."""
        row = {"id": new_id(), "job_id": job_id, "round": 1, "gateway": "g", "model": "m", "answer": "a"}
        said = {"prompt": {}, "parameters": {}, "input_tokens": 100, "output_tokens": 10}
        return {**row, **said, "cost_usd": None if cost is None else Decimal(cost)}
