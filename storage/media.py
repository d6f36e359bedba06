"""The media type of a file: what its first bytes say, else what its name says. Never more than a label."""

import mimetypes

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"PAR1", "application/vnd.apache.parquet"),
)

#: What the standard library does not know, or tells differently from one host to the next.
_ENDINGS = {
    ".csv": "text/csv",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".npy": "application/x-npy",
    ".parquet": "application/vnd.apache.parquet",
    ".svg": "image/svg+xml",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
}

_UNKNOWN = "application/octet-stream"

# The tables that come with Python, not those of the host: the same name has the same type everywhere.
_TABLES = mimetypes.MimeTypes()


def media_type(name: str, head: bytes) -> str:
    """The type of a file with this name and these first bytes (16 are enough).

    >>> media_type("chart.txt", b"\\x89PNG\\r\\n\\x1a\\n...")
    'image/png'
    >>> media_type("data.csv", b"a,b"), media_type("blob", b"")
    ('text/csv', 'application/octet-stream')
    """
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if known := _ENDINGS.get(ending):
        return known
    guessed, encoding = _TABLES.guess_type("x" + ending)
    return _UNKNOWN if guessed is None or encoding is not None else guessed
