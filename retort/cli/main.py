"""`retort`: run the service on this machine, and use it from a shell.

Modules that take long to import are imported inside the commands that need them.
"""

import typer

from retort.cli import (
    artifacts,
    ask,
    audit,
    batch,
    doctor,
    engine,
    images,
    jobs,
    keys,
    models,
    run,
    savings,
    scripted,
    service,
    stats,
)

app = typer.Typer(
    name="retort",
    help="Run the Retort service on this machine, and run code with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
service.register(app)
run.register(app)
ask.register(app)
jobs.register(app)
batch.register(app)
artifacts.register(app)
stats.register(app)
keys.register(app)
models.register(app)
images.register(app)
audit.register(app)
doctor.register(app)
engine.register(app)
savings.register(app)
scripted.register(app)


def main() -> None:
    """Entry point of the `retort` program."""
    app()


if __name__ == "__main__":
    main()
