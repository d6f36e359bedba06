"""Runs migrations against RETORT_DATABASE_URL, or the connection in `config.attributes`."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from domain.addresses import with_password
from domain.tables.base import metadata

#: A migration that cannot have its lock soon gives up instead of holding every query behind it.
LOCK_TIMEOUT = "5s"


def run(connection: Connection) -> None:
    """Run the migrations on `connection`, each in a transaction of its own."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = os.environ.get("RETORT_DATABASE_URL")
    if not url:
        raise SystemExit("set RETORT_DATABASE_URL to the database to migrate")
    url = with_password(url, os.environ.get("RETORT_DATABASE_PASSWORD_FILE"))
    with create_engine(url).connect() as fresh:
        run(fresh)
