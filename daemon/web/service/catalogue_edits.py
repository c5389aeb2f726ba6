"""One entry of the catalogue at a time, for a person at a form; the others stay as they are.

The catalogue is stored as a whole, but two people at two entries do not disturb each other: an entry is put in its
place in the newest catalogue. Of two people at the same entry the second is told, by the seal of what he began with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import orjson

from daemon.commands import Conflict, Invalid
from daemon.core.events.catalogue import MAX_TYPES, TypeDraft, check
from daemon.core.events.event import FieldProblem
from daemon.web.forms import request_forms
from daemon.web.forms.catalogue_forms import ExampleForm
from daemon.web.http import bodies
from daemon.web.http.problems import Problem
from daemon.web.http.services import Services
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.postgres.errors import VersionConflict

# How often an edit begins again, because another entry was edited in the same moment.
ATTEMPTS = 5

Entries = dict[str, TypeDraft]


class Changed(Exception):
    """The entry is another one by now, or gone: `now` is None then."""

    def __init__(self, now: TypeRow | None) -> None:
        super().__init__("the event type was changed by somebody else")
        self.now = now


def seal(row: TypeRow | None) -> str:
    """What tells an entry from what it was before or will be; empty for one that is not in the catalogue."""
    return "" if row is None else hashlib.sha256(f"{row.description}\0{row.example}".encode()).hexdigest()


async def add(services: Services, draft: TypeDraft) -> None:
    """A new entry, which has no `problems`. Raises Invalid if there is one of that name, or no room."""

    def change(entries: Entries) -> None:
        if draft.name in entries:
            raise _invalid("name", "is in the catalogue already: edit it there")
        if len(entries) >= MAX_TYPES:
            raise _invalid("name", f"does not fit in: the catalogue has {MAX_TYPES} types, which is all it takes")
        entries[draft.name] = draft

    await _changed(services, change)


async def put(services: Services, draft: TypeDraft, *, opened: str) -> None:
    """Another text, which has no `problems`, for an entry that was read with the seal `opened`. Raises Changed."""

    def change(entries: Entries) -> None:
        entries[draft.name] = draft

    await _changed(services, change, name=draft.name, opened=opened)


async def remove(services: Services, name: str, *, opened: str) -> None:
    """Takes out an entry that was read with the seal `opened`. Raises Changed."""

    def change(entries: Entries) -> None:
        del entries[name]

    await _changed(services, change, name=name, opened=opened)


def problems(draft: TypeDraft) -> list[FieldProblem]:
    """What is wrong with an entry by itself, by its fields."""
    return [FieldProblem(field=each.field.split(".")[-1], message=each.message) for each in check([draft])]


def example_of(services: Services, text: str) -> Mapping[str, object]:
    """An example as somebody has typed it; nothing at all is an empty one. Raises Invalid, all about `example`."""
    if not text.strip():
        return {}
    try:
        value = bodies.parsed_object(text.encode())
        return request_forms.validated(ExampleForm, value, services).model_dump()
    except Problem as error:
        raise _invalid("example", error.detail.removeprefix("the body ")) from error
    except Invalid as error:
        raise _invalid("example", "; ".join(f"{each.field}: {each.message}" for each in error.problems)) from error


async def _changed(
    services: Services, change: Callable[[Entries], None], *, name: str | None = None, opened: str = ""
) -> None:
    """Applies a change to the newest catalogue; if that is replaced meanwhile, to the one after. Raises Conflict."""
    for _ in range(ATTEMPTS):
        edition, rows = await catalogue.entries(services.database)
        if name is not None:
            now = next((row for row in rows if row.name == name), None)
            if now is None or seal(now) != opened:
                raise Changed(now)
        entries = {row.name: _draft(row) for row in rows}
        change(entries)
        try:
            await services.catalogue.replace(list(entries.values()), edition=edition)
        except VersionConflict:
            continue
        return
    raise Conflict("the catalogue is being changed by many others right now: try again")


def _draft(row: TypeRow) -> TypeDraft:
    return TypeDraft(name=row.name, description=row.description, example=orjson.loads(row.example))


def _invalid(field: str, message: str) -> Invalid:
    return Invalid((FieldProblem(field=field, message=message),))
