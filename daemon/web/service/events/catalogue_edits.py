"""Edits of one entry of the catalogue, as the dashboard's forms make them; the other entries stay as they are.

The catalogue is stored as a whole. An edit replaces its entry in the newest catalogue, so two people can edit different
entries at the same time. If two people edit the same entry, the fingerprint of what they began with reveals it, and the
second edit is refused.
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
from daemon.web.http.problems import Problem
from daemon.web.http.requests import bodies
from daemon.web.http.services import Services
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.postgres.errors import VersionConflict

# How often an edit is tried, if other edits replace the catalogue at the same time.
ATTEMPTS = 5

Entries = dict[str, TypeDraft]


class EntryChanged(Exception):
    """The entry has changed since it was read. `now` is the present entry, None if it was removed."""

    def __init__(self, now: TypeRow | None) -> None:
        super().__init__("the event type was changed by somebody else")
        self.now = now


def fingerprint(row: TypeRow | None) -> str:
    """A hash of an entry's text, which changes with every edit; empty for an entry that is not in the catalogue."""
    return "" if row is None else hashlib.sha256(f"{row.description}\0{row.example}".encode()).hexdigest()


async def add(services: Services, draft: TypeDraft) -> None:
    """Adds an entry that has no `problems`. Raises Invalid if its name is taken or the catalogue is full, Conflict."""

    def change(entries: Entries) -> None:
        if draft.name in entries:
            raise _invalid("name", "is in the catalogue already: edit it there")
        if len(entries) >= MAX_TYPES:
            raise _invalid("name", f"does not fit in: the catalogue has {MAX_TYPES} types, which is all it takes")
        entries[draft.name] = draft

    await _apply(services, change)


async def put(services: Services, draft: TypeDraft, *, expected: str) -> None:
    """Replaces an entry, that was read with the fingerprint `expected`, by a draft that has no `problems`.

    Raises EntryChanged, or Conflict.
    """

    def change(entries: Entries) -> None:
        entries[draft.name] = draft

    await _apply(services, change, name=draft.name, expected=expected)


async def remove(services: Services, name: str, *, expected: str) -> None:
    """Removes an entry that was read with the fingerprint `expected`. Raises EntryChanged, or Conflict."""

    def change(entries: Entries) -> None:
        del entries[name]

    await _apply(services, change, name=name, expected=expected)


def problems(draft: TypeDraft) -> list[FieldProblem]:
    """What is wrong with the fields of an entry, apart from the rest of the catalogue."""
    return [FieldProblem(field=each.field.split(".")[-1], message=each.message) for each in check([draft])]


def parse_example(services: Services, text: str) -> Mapping[str, object]:
    """An example from the text of a form; blank text is an empty example. Raises Invalid for the field `example`."""
    if not text.strip():
        return {}
    try:
        value = bodies.parsed_object(text.encode())
        return request_forms.validated(ExampleForm, value, services).model_dump()
    except Problem as error:
        raise _invalid("example", error.detail.removeprefix("the body ")) from error
    except Invalid as error:
        raise _invalid("example", "; ".join(f"{each.field}: {each.message}" for each in error.problems)) from error


async def _apply(
    services: Services, change: Callable[[Entries], None], *, name: str | None = None, expected: str = ""
) -> None:
    """Applies a change to the newest catalogue, and again if the catalogue is replaced at the same time.

    Raises Conflict after ATTEMPTS, and EntryChanged if the entry `name` has not the fingerprint `expected`.
    """
    for _ in range(ATTEMPTS):
        edition, rows = await catalogue.entries(services.command_database)
        if name is not None:
            now = next((row for row in rows if row.name == name), None)
            if now is None or fingerprint(now) != expected:
                raise EntryChanged(now)
        entries = {row.name: _draft(row) for row in rows}
        change(entries)
        try:
            await services.catalogue.replace(list(entries.values()), edition=edition, kept=())
        except VersionConflict:
            continue
        return
    raise Conflict("the catalogue is being changed by many others right now: try again")


def _draft(row: TypeRow) -> TypeDraft:
    return TypeDraft(name=row.name, description=row.description, example=orjson.loads(row.example))


def _invalid(field: str, message: str) -> Invalid:
    return Invalid((FieldProblem(field=field, message=message),))
