"""Delete from a folder of installed packages what a running program never reads.

Runs in the image's build stage: `python3 -I prune.py <site folder>`.
"""

import shutil
import sys
from pathlib import Path

# Test suites are a third of the files. `sympy.testing` and `numpy.testing` are public modules and stay.
TEST_FOLDERS = {"tests"}
# For compilers and type checkers; the image has neither.
SUFFIXES = {".a", ".lib", ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cpp", ".f", ".f90"}


def prune(site: Path) -> None:
    """Delete test suites, static libraries, headers, stubs and the scripts of `site`."""
    for folder in sorted(path for path in site.rglob("*") if path.is_dir() and path.name in TEST_FOLDERS):
        shutil.rmtree(folder, ignore_errors=True)
    for path in site.rglob("*"):
        if path.is_file() and path.suffix in SUFFIXES:
            path.unlink()
    for name in ("bin", "share"):
        shutil.rmtree(site / name, ignore_errors=True)


if __name__ == "__main__":
    prune(Path(sys.argv[1]))
