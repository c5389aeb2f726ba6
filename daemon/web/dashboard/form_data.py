"""What was typed into a form: texts by field, as they came. What they mean is judged where they are used."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.events.event import FieldProblem
from daemon.web.http import bodies
from daemon.web.http.problems import Problem

MAX_BODY_BYTES = 512 * 1024  # a form's 256 KiB of JSON, where every byte may be written as three
MAX_FIELDS = 5000
# A longer form is read beside the loop: a tenth of a second, if it is all percent signs.
LONG_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class FormData:
    """A field that was not sent is empty: so browsers send a box that is not checked."""

    fields: dict[str, list[str]]

    def one(self, name: str) -> str:
        """The text of a field. Line ends are as on this side of the wire, where they are one character."""
        return self.fields.get(name, [""])[-1].replace("\r\n", "\n")

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])

    def has(self, name: str) -> bool:
        """True if it was checked, or something was typed."""
        return bool(self.one(name))


async def read(request: web.Request) -> FormData:
    """The form in a body. Raises Problem."""
    raw = await bodies.read(request, most_bytes=MAX_BODY_BYTES)
    if raw and request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "a page takes what its own form sends")
    try:
        return FormData(_parsed(raw) if len(raw) <= LONG_BYTES else await asyncio.to_thread(_parsed, raw))
    except ValueError as error:  # not UTF-8 is one too
        raise Problem(400, "this is not what the page's form sends: load the page again") from error


def _parsed(raw: bytes) -> dict[str, list[str]]:
    return parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")


# A form that is sent twice is carried out once: it has an id, made when it was shown.

ONCE_FIELD = "once"


def new_form_id() -> str:
    return secrets.token_urlsafe(16)


def request_id(request: web.Request, form: FormData) -> str | None:
    """What the command is known by, for pages.context; None if the form has no id."""
    given = form.one(ONCE_FIELD)
    text = f"{request.match_info['tenant']}\n{request.rel_url.raw_path}\n{given}"
    return hashlib.sha256(text.encode()).hexdigest() if given else None


# What is wrong with a form, by field: for the sentences beside the fields, and for the list above them.


class FormErrors:
    """Sentences by field. Falsy if nothing is wrong. Fields are named as in the API: `payload.filter`."""

    def __init__(self, problems: Sequence[FieldProblem] = ()) -> None:
        self._problems = tuple(problems)

    @classmethod
    def of(cls, error: Invalid) -> FormErrors:
        return cls(error.problems)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def __iter__(self) -> Iterator[FieldProblem]:
        return iter(self._problems)

    def __getitem__(self, field: str) -> list[str]:
        """What is wrong with that very field."""
        return [problem.message for problem in self._problems if problem.field == field]
