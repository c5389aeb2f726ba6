"""Custom headers as lines of a form: `Name: value`. A stored value is a mask, and as long as it is one it stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from daemon.core.events.event import FieldProblem
from daemon.web.http.shapes import MASK

# Many more than there may be headers. A form has room for a quarter of a million, and each may be wrong.
MAX_LINES = 200
# Of a name in a sentence.
_SHOWN_CHARACTERS = 128


def written(headers: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}".rstrip() for name, value in headers.items())


def read(text: str, *, stored: Collection[str]) -> tuple[dict[str, str | None], Sequence[FieldProblem]]:
    """Value by name, None for a stored one that stays; and what is wrong with the lines as such."""
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        return {}, [_problem(f"have {len(lines)} lines, {MAX_LINES} are allowed")]
    known = {name.lower() for name in stored}
    headers: dict[str, str | None] = {}
    problems: list[FieldProblem] = []
    for number, line in enumerate(lines, 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        shown = name[:_SHOWN_CHARACTERS]
        if not line.strip():
            continue
        if not colon or not name:
            problems.append(_problem(f"line {number} is not of the form Name: value"))
        elif name in headers:
            problems.append(_problem(f"{shown} is given twice"))
        elif not value:
            problems.append(_problem(f"{shown} has no value: give one, or take the line out"))
        elif value == MASK and name.lower() not in known:
            problems.append(_problem(f"{shown}: {MASK} stands for a stored value, and there is none: give the value"))
        else:
            headers[name] = None if value == MASK else value
    return headers, problems


def merged(opened: str, typed: str, live: str) -> str:
    """The lines that were typed, with those that somebody else added or took away; as typed if they make no sense."""
    before, mine, now = (_by_name(text) for text in (opened, typed, live))
    if before is None or mine is None or now is None:
        return typed
    kept = {name: value for name, value in now.items() if name in mine or name not in before}
    added = {name: value for name, value in mine.items() if value != MASK or name not in before}
    return written(kept | added)


def _by_name(text: str) -> dict[str, str] | None:
    headers, problems = read(text, stored=[line.partition(":")[0].strip() for line in text.splitlines()[:MAX_LINES]])
    return None if problems else {name: MASK if value is None else value for name, value in headers.items()}


def _problem(message: str) -> FieldProblem:
    return FieldProblem(field="headers", message=message)
