"""Which characters free texts may have: those of every script, and all that belongs to them.

Names and reasons are read by people in lists, histories and terminals. The one thing to know: a joiner, an ideographic
space or a direction mark is a part of somebody's writing. Refused are only control characters, and those that reorder
what stands around them, so that a text could show what it does not say (Unicode Technical Report 36).
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

_CONTROLS = r"\x00-\x1f\x7f-\x9f"
_REORDERING = r"\u202a-\u202e\u2066-\u2069"

# In texts of more than one line.
_LINE_CONTROLS = "\t\n\r"

# Surrogates are halves of a character: no such text can be stored.
_REFUSED = re.compile(rf"[{_CONTROLS}{_REORDERING}\ud800-\udfff]")
_ESCAPED = re.compile(rf"[{_CONTROLS}{_REORDERING}\u2028\u2029\ud800-\udfff]")


def problem(text: str, *, has_lines: bool = False) -> str | None:
    """Why a text is refused, as the rest of a sentence that names the character, None if it is not.

    `has_lines` allows tabs and line ends.
    """
    refused = next((each for each in _REFUSED.findall(text) if not (has_lines and each in _LINE_CONTROLS)), None)
    if refused is None:
        return None
    code = f"U+{ord(refused):04X}"
    if unicodedata.category(refused) == "Cf":
        return f"must not contain characters that reorder a text: remove {code}, {unicodedata.name(refused).lower()}"
    return f"must not contain control characters: remove {code}"


def is_blank(text: str) -> bool:
    """True if nothing of the text can be seen: blanks of any script, joiners and marks of direction."""
    return all(unicodedata.category(each) in ("Zs", "Zl", "Zp", "Cc", "Cf") for each in text)


def on_one_line(text: str) -> str:
    """`text` for a terminal or a log: what `problem` refuses, and other line ends, are escaped."""
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escaped_in_json(text: str) -> str:
    """JSON with the same characters escaped: it is the same JSON, and one line for everybody."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def moment(at: datetime) -> str:
    """A moment as sentences name it: exact, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"
