"""The catalogue of event types: the checks of its entries, the types a route subscribes to, and unknown types.

Pure. A type's *group* is the part before its first dot; it cannot be set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import orjson

from daemon.core import texts
from daemon.core.events.event import MAX_TEXT_CHARACTERS, TYPE_PATTERN, FieldProblem
from daemon.core.routing.index import patterns_of

MAX_TYPES = 1000
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_EXAMPLE_BYTES = 64 * 1024

# A suggestion compares a type with the whole catalogue, and a batch may have ten thousand unknown types.
MAX_GUESSES = 10

PARTS = ("data", "context", "snapshot")

_TYPE = re.compile(TYPE_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDraft:
    """An entry as submitted. `group` is None if it was left out; `example` has any of the PARTS of an event."""

    name: str
    group: str | None = None
    description: str = ""
    example: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The parts of a test event, each a JSON object."""

    data: bytes
    context: bytes
    snapshot: bytes

    @classmethod
    def read(cls, text: str) -> Example:
        """The example from the text that `example_text` made."""
        parts = orjson.loads(text)
        return cls(**{name: orjson.dumps(parts[name]) for name in PARTS})


class KnownTypes:
    """The known types, for strict publishing. Each request, file or command has its own, which limits suggestions."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._guesses = MAX_GUESSES
        self._messages: dict[str, str] = {}

    def including(self, patterns: Iterable[str]) -> KnownTypes:
        """A copy in which these patterns are known too."""
        return KnownTypes(self._names.union(patterns))

    def problem(self, event_type: str) -> str | None:
        """Why a well-formed type is refused, None if it is known; then the cost is one lookup in a set."""
        if event_type in self._names:
            return None
        message = self._messages.get(event_type)
        if message is None:
            message = f"{event_type} is not in the catalogue of event types{self._hint(event_type)}"
            if self._guesses > 0:
                self._guesses -= 1
                self._messages[event_type] = message
        return message

    def _hint(self, event_type: str) -> str:
        if not self._names:
            return ", which is empty: load one with hookledger event-types load, or PUT /v1/event-types"
        near = get_close_matches(event_type, self._names, n=1) if self._guesses > 0 else []
        return f": did you mean {near[0]}?" if near else ": see GET /v1/event-types"


def check(drafts: Sequence[TypeDraft]) -> tuple[FieldProblem, ...]:
    """All problems of the entries of a catalogue; fields are numbered from 0."""
    problems: list[FieldProblem] = []
    if len(drafts) > MAX_TYPES:
        problems.append(
            FieldProblem(field="event_types", message=f"has {len(drafts)} entries, {MAX_TYPES} are allowed")
        )
    count = Counter(draft.name for draft in drafts)
    for number, draft in enumerate(drafts[:MAX_TYPES]):
        found = {
            "name": name_problem(draft.name) or ("is given more than once" if count[draft.name] > 1 else None),
            "group": _group_problem(draft),
            "description": _description_problem(draft.description),
            "example": _example_problem(draft.example),
        }
        problems += [
            FieldProblem(field=f"event_types.{number}.{field}", message=message)
            for field, message in found.items()
            if message is not None
        ]
    return tuple(problems)


def example_text(draft: TypeDraft) -> str:
    """The example of an entry that passed `check`, with all its parts, as JSON."""
    return orjson.dumps({name: draft.example.get(name) or {} for name in PARTS}).decode()


def group_of(event_type: str) -> str:
    """`order` of `order.create`."""
    return event_type.partition(".")[0]


def subscribed_types(names: Iterable[str], patterns: Collection[str]) -> list[str]:
    """Those of `names` that a route with these patterns subscribes to, in the same order."""
    return [name for name in names if any(pattern in patterns for pattern in patterns_of(name))]


def name_problem(name: str) -> str | None:
    """Why a text is no event type, None if it is one."""
    if len(name) <= MAX_TEXT_CHARACTERS and _TYPE.fullmatch(name):
        return None
    return (
        "must be object.action in lower case (a-z, 0-9, _), like order.create, "
        f"of at most {MAX_TEXT_CHARACTERS} characters"
    )


def _group_problem(draft: TypeDraft) -> str | None:
    group = group_of(draft.name)
    if draft.group in (None, group):
        return None
    return f"is the part of the name before the first dot, {group!r}: leave it out"


def _description_problem(description: str) -> str | None:
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        return f"has {len(description)} characters, {MAX_DESCRIPTION_CHARACTERS} are allowed"
    return texts.problem(description, has_lines=True)


def _example_problem(example: Mapping[str, object]) -> str | None:
    try:
        size_bytes = len(orjson.dumps(example))
    except orjson.JSONEncodeError:
        return "is nested too deeply"
    if size_bytes > MAX_EXAMPLE_BYTES:
        return f"has {size_bytes} bytes, {MAX_EXAMPLE_BYTES} are allowed"
    return None
