"""`retort`: run the service on this machine, and use it from a shell.

Modules that take long to import are imported inside the commands that need them.
"""

import typer

from retort.cli import ask, bench, doctor, engine, models, run, savings, scripted, service

app = typer.Typer(
    name="retort",
    help="Run the Retort service on this machine, and run code with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
service.register(app)
run.register(app)
ask.register(app)
doctor.register(app)
engine.register(app)
savings.register(app)
models.register(app)
bench.register(app)
scripted.register(app)


def main() -> None:
    """Entry point of the `retort` program."""
    app()


if __name__ == "__main__":
    main()
