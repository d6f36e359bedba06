"""Used while the service image is built, by a plain Python: what pyproject.toml says of the package.

`dependencies.py PYPROJECT` prints its dependencies, without those of extras; with `--metadata FOLDER` it writes
there what tells Python the package's version.
"""

import sys
import tomllib
from pathlib import Path


def main(arguments: list[str]) -> None:
    """See the module."""
    project = tomllib.loads(Path(arguments[0]).read_text(encoding="utf-8"))["project"]
    if arguments[1:2] != ["--metadata"]:
        print("\n".join(project["dependencies"]))
        return
    folder = Path(arguments[2], f"{project['name']}-{project['version']}.dist-info")
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
