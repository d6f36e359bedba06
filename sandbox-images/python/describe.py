"""Write the image's description, `image.json`: what the runner preloads and what `/v1/languages` shows.

Runs in the image's build stage: `python3 -I describe.py <site folder> <image.toml> <requirements> <preload>`.
The last is written too: what the runner preloads, in a form that takes it no time to read.
"""

import json
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


def describe(site: Path, settings: Path, requirements: Path) -> dict[str, object]:
    """Return the description; raise SystemExit when settings, requirements and packages disagree."""
    image = tomllib.loads(settings.read_text())
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if image["version"] != running:
        raise SystemExit(f"image.toml says Python {image['version']}, this is Python {running}")
    packages = {found.metadata["Name"]: found.version for found in distributions(path=[str(site)])}
    lines = [line.split()[0] for line in requirements.read_text().splitlines() if "==" in line]
    installed = {f"{name}=={version}".lower().replace("_", "-") for name, version in packages.items()}
    if missing := {line.lower().replace("_", "-") for line in lines} - installed:
        raise SystemExit(f"required but not installed: {', '.join(sorted(missing))}")
    return {
        "language": image["language"],
        "version": image["version"],
        "preload": image["preload"],
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def preload_lines(image: dict[str, Any]) -> str:
    """For each level a line of modules and a line of words, separated by tabs."""
    levels = image["preload"]
    return "".join("\t".join(level[key]) + "\n" for level in levels for key in ("modules", "mentions"))


if __name__ == "__main__":
    Path(sys.argv[4]).write_text(preload_lines(tomllib.loads(Path(sys.argv[2]).read_text())))
    json.dump(describe(*map(Path, sys.argv[1:4])), sys.stdout, indent=1)
