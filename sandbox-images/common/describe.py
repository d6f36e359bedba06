"""Write /opt/retort/image.json: what `/v1/languages` tells of this image.

Runs in the image itself, by a Python with little of its standard library: `describe.py VERSION [PACKAGES]`.
What image.toml says was put beside this file as JSON by the build.
"""

import json
import os
import sys

TOLD = "/opt/retort/build/image.json"
FOUND = "/opt/retort/image.json"


def packages(path: str) -> dict[str, str]:
    """Names and versions, sorted as people sort."""
    with open(path, encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file if line.strip()]
    return {name: version for name, version in sorted(pairs, key=lambda pair: pair[0].lower())}  # noqa: C416 (typed)


def system() -> dict[str, object]:
    """The distribution, and its packages as they are installed."""
    with open("/etc/os-release", encoding="utf-8") as file:
        facts = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    with os.popen(r"dpkg-query -W -f '${binary:Package}\t${Version}\n'") as query:  # noqa: S605 (ours)
        listed = dict(line.rstrip("\n").split("\t") for line in query)
    return {"name": facts["PRETTY_NAME"].strip('"'), "packages": listed}


def main() -> None:
    """Put together what was told and what is found."""
    with open(TOLD, encoding="utf-8") as file:
        image = json.load(file)
    version = sys.argv[1]
    if not f"{version}.".startswith(f"{image['version'] or version}."):
        raise SystemExit(f"image.toml says version {image['version']}, this is {version}")
    image["version"] = version
    image["packages"] = packages(sys.argv[2]) if len(sys.argv) > 2 else {}
    image["system"] = system()
    with open(FOUND, "w", encoding="utf-8") as file:
        json.dump(image, file, indent=1)


if __name__ == "__main__":
    main()
