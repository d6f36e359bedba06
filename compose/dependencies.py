"""Used while the images are built, by a plain Python: what pyproject.toml says of the package.

dependencies.py PYPROJECT                          prints its dependencies, without those of extras
dependencies.py PYPROJECT --pinned REQUIREMENTS    prints the pinned packages that not only developers use
dependencies.py PYPROJECT --metadata FOLDER        writes there what tells Python the package's version
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any


def pinned(project: dict[str, Any], requirements: str) -> str:
    """The entries of a requirements.txt, hashes included, without what the extra `dev` alone names."""
    optional = project["optional-dependencies"].items()
    extras = {extra: {_name(line) for line in lines} for extra, lines in optional}
    unwanted = extras.pop("dev").difference(*extras.values())
    entries = re.split(r"^(?=[A-Za-z0-9])", requirements, flags=re.MULTILINE)
    return "".join(entry for entry in entries if _name(entry) not in unwanted)


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def main(arguments: list[str]) -> None:
    """See the module."""
    project = tomllib.loads(Path(arguments[0]).read_text(encoding="utf-8"))["project"]
    match arguments[1:]:
        case []:
            print("\n".join(project["dependencies"]))
        case ["--pinned", requirements]:
            print(pinned(project, Path(requirements).read_text(encoding="utf-8")), end="")
        case ["--metadata", folder]:
            about = Path(folder, f"{project['name']}-{project['version']}.dist-info")
            about.mkdir()
            text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            (about / "METADATA").write_text(text, encoding="utf-8")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
