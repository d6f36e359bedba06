"""The browser of the tests: Chromium from the distribution, where none is there yet."""

import os
import shutil
import subprocess
from collections.abc import Callable

from tests.browser import MISSING, program


class NoBrowser(Exception):
    """There is no browser, and none can be installed; says what to do."""


def ensure_browser(say: Callable[[str], None]) -> None:
    """See that there is a browser; on Debian and Ubuntu as root it is installed.

    Raises:
        NoBrowser: it is not there, and cannot be installed here.
    """
    if program() is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoBrowser(MISSING)
    say("installing Chromium for the browser tests")
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            ["apt-get", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-10:])
            raise NoBrowser(f"`apt-get {' '.join(words)}` failed:\n{tail}\n{MISSING}")
    if program() is None:
        raise NoBrowser(MISSING)
