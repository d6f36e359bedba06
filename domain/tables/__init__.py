"""The tables. Migrations build them; a test finds no drift between the two.

All times are the database's own clock (`now()`), which is also the only clock that leases use.

Importing one of them imports all, so that whoever has `base.metadata` sees every table.
"""

from domain.tables import attempt, cache, caller, job, usage, webhook, worker  # noqa: F401
