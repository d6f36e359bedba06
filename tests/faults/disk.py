"""Small file systems that can be filled, each in a file of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def mounted(folder: Path, image: Path, size_mb: int) -> Iterator[None]:
    """A file system at `folder`, which is made, in the file `image`; needs root.

    Raises:
        CalledProcessError: it cannot be made or mounted here.
    """
    folder.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size_mb << 20)
    try:
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
    except subprocess.CalledProcessError:  # such as where there are no loop devices
        _run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        image.unlink(missing_ok=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left in a file system: the file that does."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        free = os.statvfs(folder)
        with suppress(OSError):  # nearly all of it, without writing
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - (8 << 20)))
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler
