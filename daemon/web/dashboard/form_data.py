"""A submitted form: its fields as texts, the id that makes it idempotent, and the errors to show beside its fields.

The texts are not interpreted here; the page that shows the form does that.
"""

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
from daemon.web.forms.request_forms import SHORT_BYTES
from daemon.web.http.problems import Problem
from daemon.web.http.requests import bodies
from daemon.web.http.requests.turns import turn

MAX_BODY_BYTES = 512 * 1024  # 256 KiB of JSON in a form field, where one byte may be encoded as three
MAX_FIELDS = 5000
# A longer form is parsed in a thread: the longest takes a tenth of a second if it is all percent signs.
LONG_BYTES = 32 * 1024
# What it takes about to parse and check a long form, and to make the page that shows it again.
SECONDS_PER_BYTE = 5e-7
# The hidden field that holds the id of a form.
FORM_ID_FIELD = "once"


@dataclass(frozen=True, slots=True)
class FormData:
    """The fields of a form. A missing field is empty: browsers leave out a checkbox that is not checked."""

    fields: dict[str, list[str]]

    def one(self, name: str) -> str:
        """The last text of a field; each line end is one line feed, where browsers send two characters."""
        return self.fields.get(name, [""])[-1].replace("\r\n", "\n")

    def all(self, name: str) -> list[str]:
        """All texts of a field, such as those of its checked boxes."""
        return self.fields.get(name, [])

    def has(self, name: str) -> bool:
        """True if the box is checked, or the text is not empty."""
        return bool(self.one(name))


async def read(request: web.Request, *, max_fields: int = MAX_FIELDS) -> FormData:
    """The form in the body of a request. Raises Problem."""
    raw = await bodies.read(request, max_bytes=MAX_BODY_BYTES)
    if raw and request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "a page takes what its own form sends")
    await turn(request, len(raw), short_bytes=SHORT_BYTES, later_seconds=len(raw) * SECONDS_PER_BYTE)
    try:
        is_short = len(raw) <= LONG_BYTES
        fields = _parsed(raw, max_fields) if is_short else await asyncio.to_thread(_parsed, raw, max_fields)
    except ValueError as error:  # UnicodeDecodeError is one too
        raise Problem(400, "this is not what the page's form sends: load the page again") from error
    return FormData(fields)


def new_form_id() -> str:
    """An id for a form that is about to be shown: a form that is sent twice is carried out once."""
    return secrets.token_urlsafe(16)


def request_id(request: web.Request, form: FormData) -> str | None:
    """The idempotency key of the command, for `pages.context`; None if the form has no id."""
    form_id = form.one(FORM_ID_FIELD)
    text = f"{request.match_info['tenant']}\n{request.rel_url.raw_path}\n{form_id}"
    return hashlib.sha256(text.encode()).hexdigest() if form_id else None


class FormErrors:
    """What is wrong with a form, by field; falsy if nothing is. Fields are named as in the API: `payload.filter`.

    Templates show each error beside its field, and all of them in a list above the form.
    """

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
        """The messages about exactly this field."""
        return [problem.message for problem in self._problems if problem.field == field]


def _parsed(raw: bytes, max_fields: int) -> dict[str, list[str]]:
    return parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=max_fields, errors="strict")
