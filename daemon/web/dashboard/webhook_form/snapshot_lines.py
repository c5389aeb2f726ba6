"""The selected entities of a snapshot as lines of a form: `customer`, or `orders: public_id, total`.

A name that such a line cannot contain is written as a string of JSON, in double quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import snapshot_selection
from daemon.core.webhook.payload import SnapshotSelection
from daemon.web.forms.request_forms import MAX_ENTITIES

# Twice as many as a webhook may have entities. A form could have a quarter of a million lines, each with an error.
MAX_LINES = 2 * MAX_ENTITIES
MAX_CHARACTERS = 100_000
# Characters of a name in an error.
_NAME_CHARACTERS = 128

_PLAIN = re.compile(r'[^\s:,"]([^:,"\n]*[^\s:,"])?')
# Possessive quantifiers: a line may be as long as a form, and backtracking over its blanks would take minutes.
_ITEM = r'\s*+("(?:[^"\\]|\\.)*"\s*+|[^:,"]++)'
_LINE = re.compile(rf"{_ITEM}(?::(?P<fields>.*))?")
_NEXT = re.compile(rf"{_ITEM}(?:,|$)")


def written(selection: SnapshotSelection) -> str:
    return "\n".join(
        _written_name(entity)
        if fields is None
        else f"{_written_name(entity)}: {', '.join(map(_written_name, fields))}".rstrip()
        for entity, fields in selection
    )


def read(text: str) -> tuple[SnapshotSelection, Sequence[FieldProblem]]:
    """The selection, and what is wrong with the lines."""
    lines = text.splitlines()
    if len(text) > MAX_CHARACTERS:
        return (), [_problem(f"has {len(text)} characters, {MAX_CHARACTERS} are allowed")]
    if len(lines) > MAX_LINES:
        return (), [_problem(f"has {len(lines)} lines, {MAX_LINES} are allowed")]
    selected: dict[str, bool | list[str]] = {}
    problems: list[FieldProblem] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        names = None if match is None or match["fields"] is None else _field_names(match["fields"])
        if match is None or (names is None and match["fields"] is not None):
            problems.append(_problem(f"line {number} is neither an entity nor entity: field, field"))
        elif names == []:
            problems.append(_problem(f"line {number} names no field: name some, or leave the colon out for all"))
        elif (entity := _read_name(match[1])) in selected:
            problems.append(_problem(f"{entity[:_NAME_CHARACTERS]} is named twice: put its fields into one line"))
        else:
            selected[entity] = True if names is None else names
    if len(selected) > MAX_ENTITIES:
        problems.append(_problem(f"names {len(selected)} entities, {MAX_ENTITIES} are allowed"))
    return snapshot_selection(selected) or (), problems


def _field_names(text: str) -> list[str] | None:
    """The names of fields; None if they are not separated by commas."""
    names, position, text = [], 0, text.strip()
    while position < len(text):
        match = _NEXT.match(text, position)
        if match is None:
            return None
        names.append(_read_name(match[1]))
        position = match.end()
    return names


def _written_name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _read_name(text: str) -> str:
    text = text.strip()
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _problem(message: str) -> FieldProblem:
    return FieldProblem(field="payload.snapshot", message=message)
