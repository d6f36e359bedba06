"""Addresses of the database and the broker whose passwords are kept in files."""

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit


def with_password(url: str, file: Path | str | None) -> str:
    """`url` with the password that `file` holds, less white space around it; `url` itself without a file.

    >>> with_password("redis://broker:6379/0", None)
    'redis://broker:6379/0'

    Raises:
        ValueError: the file cannot be read or is empty, or the address cannot take a password; shows neither.
    """
    if file is None or str(file) == "":
        return url
    try:
        password = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the password file {file} cannot be read: {type(error).__name__}") from None
    if not password:
        raise ValueError(f"the password file {file} is empty")
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    if not place or ":" in user:
        raise ValueError("a password file belongs to an address with a host and without a password")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))
