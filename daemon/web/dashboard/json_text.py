"""JSON laid out for reading, each value as it stands in the text: 1.10 stays 1.10, and keys stay in their order."""

from __future__ import annotations

import json
import re

MAX_INDENT = 40

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def laid_out(text: str, *, most: int) -> str:
    """The text with a line for each member, after which it ends once it has more characters than `most`. What is not
    JSON comes back as it is.
    """
    if not _is_json(text):
        return text[: most + 1]
    parts: list[str] = []
    length = depth = 0
    before = ""
    for match in _PIECE.finditer(text):
        piece = match.group()
        depth -= piece in "}]"
        part = _behind(before, piece, depth) + piece
        depth += piece in "{["
        parts.append(part)
        length += len(part)
        if length > most:
            break
        before = piece
    return "".join(parts)


def _behind(before: str, piece: str, depth: int) -> str:
    """What stands between two pieces."""
    line = "\n" + "  " * min(depth, MAX_INDENT)
    match before:
        case "{" | "[":
            return "" if piece in "}]" else line
        case ",":
            return line
        case ":":
            return " "
        case _:
            return line if piece in "}]" else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True
