"""What is searched for in jobs, as the index on it has it."""

from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal_column, or_

from domain.tables import BEGINNING, jobs


def beginning(column: ColumnElement[Any]) -> ColumnElement[str]:
    """The part of a text that can be searched."""
    found: ColumnElement[str] = func.left(column, literal_column(str(BEGINNING)))
    return found


#: Where a text is looked for.
SEARCHED: tuple[ColumnElement[Any], ...] = (beginning(jobs.c.code), beginning(jobs.c.task), jobs.c.reason)


def found(match: ColumnElement[bool]) -> ColumnElement[bool]:
    """A condition on labels or `SEARCHED`, in three cases, for each of which there is an index.

    Jobs come into the large one when they have ended, once: not each time that they move.
    """
    return or_(
        and_(jobs.c.finished_at.is_not(None), match),
        and_(jobs.c.state == literal_column("'queued'"), match),
        and_(jobs.c.lease_token.is_not(None), match),
    )
