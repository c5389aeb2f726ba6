"""Custom headers as lines of a form: `Name: value`. A stored value is shown as a mask; a masked value stays stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from daemon.core.events.event import FieldProblem
from daemon.web.http.shapes import MASK

# Many more than a webhook may have headers. A form could have a quarter of a million lines, each with an error.
MAX_LINES = 200
# Characters of a name in an error.
_NAME_CHARACTERS = 128


def written(headers: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}".rstrip() for name, value in headers.items())


def read(text: str, *, stored: Collection[str]) -> tuple[dict[str, str | None], Sequence[FieldProblem]]:
    """The values by name, None for a masked value, which stays stored; and what is wrong with the lines."""
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        return {}, [_problem(f"have {len(lines)} lines, {MAX_LINES} are allowed")]
    known = {name.lower() for name in stored}
    headers: dict[str, str | None] = {}
    problems: list[FieldProblem] = []
    for number, line in enumerate(lines, 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        short_name = name[:_NAME_CHARACTERS]
        if not line.strip():
            continue
        if not colon or not name:
            problems.append(_problem(f"line {number} is not of the form Name: value"))
        elif name in headers:
            problems.append(_problem(f"{short_name} is given twice"))
        elif not value:
            problems.append(_problem(f"{short_name} has no value: give one, or take the line out"))
        elif value == MASK and name.lower() not in known:
            problems.append(
                _problem(f"{short_name}: {MASK} stands for a stored value, and there is none: give the value")
            )
        else:
            headers[name] = None if value == MASK else value
    return headers, problems


def merged(opened: str, entered: str, live: str) -> str:
    """A three-way merge of the lines: those that were entered on the base of `opened`, and those that are stored now.

    Returns `entered` if any of the texts has an error.
    """
    base, ours, theirs = (_by_name(text) for text in (opened, entered, live))
    if base is None or ours is None or theirs is None:
        return entered
    kept = {name: value for name, value in theirs.items() if name in ours or name not in base}
    added = {name: value for name, value in ours.items() if value != MASK or name not in base}
    return written(kept | added)


def _by_name(text: str) -> dict[str, str] | None:
    headers, problems = read(text, stored=[line.partition(":")[0].strip() for line in text.splitlines()[:MAX_LINES]])
    return None if problems else {name: MASK if value is None else value for name, value in headers.items()}


def _problem(message: str) -> FieldProblem:
    return FieldProblem(field="headers", message=message)
