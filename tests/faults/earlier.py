"""An earlier version of the service, as an upgrade meets it: the last one without the newest migration.

The database is of the present version already, as in the upgrade that is documented.
"""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.harness import ROOT

#: The variable that names another revision.
VARIABLE = "RETORT_EARLIER"


class NoEarlier(Exception):
    """There is no earlier version here; the message says why."""


def revision() -> str:
    """The revision of the earlier version.

    Raises:
        NoEarlier: the checkout has no history.
    """
    if named := os.environ.get(VARIABLE):
        return named
    newest = max((ROOT / "migrations" / "versions").glob("*.py"))
    added = _git("log", "--diff-filter=A", "-1", "--format=%H", "--", str(newest.relative_to(ROOT)))
    return _git("rev-parse", "--verify", f"{added.decode().strip()}^").decode().strip()


def unpacked(folder: Path) -> Path:
    """Put its source into a folder and build its image of Python; the folder.

    Raises:
        NoEarlier: see `revision`.
    """
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", revision()))) as source:
        source.extractall(folder, filter="data")
    subprocess.run(
        [sys.executable, "-m", "worker.sandbox.images", "build", "python", "--quiet"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise NoEarlier("git is not installed; install it (apt-get install git)") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise NoEarlier(f"the history does not reach back: git fetch --unshallow ({said})") from None
