"""`python -m retort.scripted`: the same as `retort scripted-model`."""

import typer

from retort.cli.scripted import scripted_model

if __name__ == "__main__":
    typer.run(scripted_model)
