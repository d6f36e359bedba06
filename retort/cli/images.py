"""`retort images`: what programs can be run in. `retort images build`: build what is missing here."""

import subprocess
from typing import Annotated

import typer

from retort.cli.common import AsJson, print_json, service, table

Names = Annotated[list[str] | None, typer.Argument(help="By default all but the optional ones.")]

images = typer.Typer(
    help="List languages, versions and images of the service; `build` builds missing images on this machine.",
    invoke_without_command=True,
    add_completion=False,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(images, name="images")


@images.callback()
def list_images(context: typer.Context, as_json: AsJson = False) -> None:
    """List the languages, the versions that live workers have, and their images. --json has the packages."""
    if context.invoked_subcommand is not None:
        return
    with service() as client:
        found = client.languages()
    if as_json:
        print_json(found.document)
        return
    rows: list[tuple[object, ...]] = []
    for language in found.languages:
        for version in language.versions:
            packages = f"{len(version.packages)} packages" if version.packages else ""
            rows.append(
                (version.name, version.version, version.image, ", ".join(version.profiles), packages),
            )
        if not language.versions:
            rows.append((language.name, "", "no worker has it", ", ".join(language.profiles), ""))
    table(("language", "version", "image", "profiles", "installed"), rows)


@images.command()
def build(names: Names = None) -> None:
    """Build the images that are missing here; it needs the container engine."""
    from retort import commands

    built = subprocess.run(commands.build_images(*(names or ())), env=commands.environment(), check=False)
    raise typer.Exit(built.returncode)
