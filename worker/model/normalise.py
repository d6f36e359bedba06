"""Output of programs, with what differs between two equal runs made equal: feedback and errors compare."""

import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_CHANGING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<uuid>"),
    (re.compile(r"\b0x[0-9a-fA-F]{4,16}\b"), "<address>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(
            r"\b\d+(?:\.\d+)?(?:e-?\d+)?\s?(?:ns|µs|us|ms|milliseconds?|seconds?|secs?|s|minutes?|min)\b(?!\w)"
        ),
        "<duration>",
    ),
    (re.compile(r"/(?:var/)?tmp/[\w.-]*[\w-]"), "<temporary file>"),
    # Where packages are: their own part of the path is enough.
    (re.compile(r"(?:/[\w.+-]+)+/(site-packages|dist-packages|node_modules)/"), r"\1/"),
    (re.compile(r"/usr/(?:local/)?lib/(python3?[\d.]*)/"), "python/"),
    # Our work folder: a file of the program's own.
    (re.compile(r"/(?:work|box|home/\w+|sandbox)/(?=[\w.])"), ""),
    (re.compile(r"\b(pid|process|thread)([ =:#]+)\d+\b", re.IGNORECASE), r"\1\2<number>"),
    # Frames of Node.js itself say nothing of a program.
    (re.compile(r"(?:^ +at .*\bnode:internal/[^\n]*(?:\n|\Z))+", re.MULTILINE), "    at <Node.js itself>\n"),
)

#: Lines of an error that do not say what it was: where it was, and what stands below every error.
_ALWAYS = re.compile(
    r"^\s*(?:at .*|(?:--> )?[\w./-]+(?::\d+)+|\^+|\}|Node\.js v.*|Execution halted|Calls: .*|\|\s*|"
    r"error: aborting due to .*|Some errors have .*|For more information about .*|"
    r"note: run with `RUST_BACKTRACE=.*)?$"
)
_SOURCE = re.compile(r"^\s*\d*\s*\|\s?")  # how a compiler shows a line of the program


def readable(output: bytes) -> str:
    """Output as text: UTF-8 where it is, without colours, other control characters written out."""
    text = output.decode("utf-8", "replace").replace("\r\n", "\n")
    text = _ANSI.sub("", text)
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def normalise(text: str) -> str:
    """The text with addresses, times, temporary names and folders made equal."""
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return text


def telling(stderr: str) -> list[str]:
    """The lines of an error, each without spaces around it, that differ from error to error."""
    lines = (_SOURCE.sub("", line).strip() for line in stderr.splitlines() if not _ALWAYS.match(line))
    return [line for line in lines if line]


def gist(stderr: str) -> str:
    """The line that says what went wrong: a compiler's first error, else the last line that tells."""
    lines = telling(stderr)
    errors = [line for line in lines if re.match(r"error(?:\[E\d+\])?:|\w*Error\b.*: ", line)]
    if errors:
        return errors[0] if errors[0].startswith("error") else errors[-1]
    return lines[-1] if lines else ""


def excerpt(output: bytes, head: int, tail: int, *, written: int, equal: bool) -> str:
    """The first `head` and the last `tail` bytes of what was kept, with a line on what is left out.

    `written` counts what the program wrote; `equal` makes equal what differs between equal runs.
    """
    if len(output) <= head + tail and written <= len(output):
        text = readable(output)
        return normalise(text) if equal else text
    # What was not kept is missing at the end, so there is no tail to show.
    last = min(tail, max(0, len(output) - head))
    parts = [output[:head].decode("utf-8", "ignore"), output[len(output) - last :].decode("utf-8", "ignore")]
    first, final = (readable(part.encode()) for part in parts)
    if equal:
        first, final = normalise(first), normalise(final)
    left_out = len(output) - min(head, len(output)) - last
    shown = f"{first}\n[… {left_out:,} bytes left out …]\n{final}" if left_out else first + final
    return shown if written <= len(output) else f"{shown}\n[… {written - len(output):,} more bytes not kept]"
