"""What is searched for in jobs, as the index on it has it."""

from sqlalchemy import ColumnElement, and_, literal_column, or_

from domain.tables.job import SEARCHED, jobs

#: Where a text is looked for.
TEXT: ColumnElement[str] = literal_column(SEARCHED)

#: Shorter texts are in no index.
INDEXED = 3


def found(match: ColumnElement[bool]) -> ColumnElement[bool]:
    """A condition on labels or `TEXT`, in three cases, for each of which there is an index.

    Jobs come into the large one when they have ended, once: not each time that they move.
    """
    return or_(
        and_(jobs.c.finished_at.is_not(None), match),
        and_(jobs.c.state == literal_column("'queued'"), match),
        and_(jobs.c.lease_token.is_not(None), match),
    )
