r"""What a program wrote, as a terminal may have it: text, colours, and nothing that does more.

A terminal's control sequences can rename windows, fill the clipboard, or make text look like something of ours.
Where output goes to a file or a pipe it is passed on byte for byte; only at a terminal these are left out.

>>> screen = Screen()
>>> screen.shown(b"\x1b[31mred\x1b[0m\n \x1b[2J\x1b]52;c;aGk=\x07\x1b[3") + screen.shown(b"2mgreen")
'\x1b[31mred\x1b[0m\n \x1b[32mgreen'
"""

import codecs
import re

#: Colours are group 1; other sequences, and control characters that move nothing, match without it.
_ESCAPE = re.compile(
    r"(\x1b\[[0-9;:]{0,64}m)"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
#: A sequence that has only begun; what is longer is none.
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\x9c]*\x1b?|[ -/]*)\Z")
_MOST_BEGUN = 4096


class Screen:
    """One stream of a program at a terminal."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = ""

    def shown(self, data: bytes) -> str:
        """What is to be shown of the next bytes."""
        text = self._begun + self._decode(data)
        begun = _BEGUN.search(text)
        cut = begun.start() if begun and len(text) - begun.start() <= _MOST_BEGUN else len(text)
        self._begun = text[cut:]
        return _ESCAPE.sub(lambda found: found[1] or "", text[:cut])
