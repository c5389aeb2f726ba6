"""The period in a form: two fields with moments, and links that fill in the last hours or days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from daemon.core.events.event import FieldProblem
from daemon.web.dashboard.form_data import FormData
from daemon.web.dashboard.html.text import parse_moment

# The period in an empty form.
DEFAULT_SPAN = timedelta(hours=24)
LAST_DAY, LAST_WEEK = ("Last 24 hours", DEFAULT_SPAN), ("Last 7 days", timedelta(days=7))


def until(now: datetime) -> datetime:
    """The end of the present minute: every event until now happened before it."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def value(at: datetime) -> str:
    """A moment as the value of a field."""
    return f"{at:%Y-%m-%dT%H:%M}:00"


def spans(now: datetime, offered: Sequence[tuple[str, timedelta]]) -> list[tuple[str, str, str]]:
    """The text of each link, and the values that it fills in."""
    return [(text, value(now - span), value(until(now))) for text, span in offered]


def moment(form: FormData, name: str, problems: list[FieldProblem]) -> datetime | None:
    """The moment in a field; None for an empty field, and for a wrong one, about which a problem is added."""
    try:
        return parse_moment(form.one(name))
    except ValueError as error:
        problems.append(FieldProblem(field=name, message=str(error)))
        return None
