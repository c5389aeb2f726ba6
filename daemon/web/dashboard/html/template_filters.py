"""Template filters: numbers, times and sizes for reading. Ages are relative to the page's `now`.

Times are written in UTC. page.js shows them in the reader's own zone, in the same format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from daemon.core import durations
from daemon.core.sentences.failures import explain_error, status_text
from daemon.web.dashboard.html.text import actor, in_merchants_words, is_moment, moment_field, moment_words
from daemon.web.http.shapes import moment as exact_moment

_MOMENT = re.compile(r"\b\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}, \d\d:\d\d:\d\d\.\d{3} UTC")
_AGES = ((86400, "day"), (3600, "h"), (60, "min"))
# What a message about a field begins with if the name of the field is its subject.
_PREDICATES = frozenset(
    {"begins", "belongs", "calls", "cannot", "fails", "has", "is",
     "lies", "looks", "may", "must", "names", "needs", "stands"}
)  # fmt: skip


def number(value: float) -> str:
    """12,345."""
    return f"{value:,}"


def moment(at: datetime) -> Markup:
    """24 Nov 2026, 18:05:12 UTC."""
    return _time(at, _exact(at), kind="moment")


@pass_context
def ago(context: Context, at: datetime) -> Markup:
    """“3 min ago”, or “in 3 min”."""
    seconds = (context["now"] - at).total_seconds()
    text = _age(abs(seconds))
    return _time(at, "just now" if text is None else f"{text} ago" if seconds > 0 else f"in {text}", kind="ago")


def timed(text: str) -> Markup:
    """A sentence whose moments, as `moment_words` writes them, are times that page.js finds."""
    return Markup(_MOMENT.sub(_marked, str(escape(text))))  # noqa: S704 - escaped, and what is put in has digits alone


def plain(sentence: str) -> Markup:
    """A sentence of the layers below in the words that merchants know, with its moments as times."""
    return timed(in_merchants_words(sentence))


def size(count: int) -> str:
    """512 B, 16.0 KiB."""
    return f"{count} B" if count < 1024 else f"{count / 1024:.1f} KiB"


def capitalize_first(text: str) -> str:
    """The text with a capital first letter; the rest is unchanged."""
    return text[:1].upper() + text[1:]


def full_sentence(text: str) -> str:
    """The text as a sentence: a capital first letter, and a full stop unless something else ends it. A name like
    order.create is left as it is.
    """
    begun = text if "." in text.partition(" ")[0] else capitalize_first(text)
    return begun + ("" if text.rstrip("”")[-1:] in tuple(".?!…") else ".")


def after_label(message: str) -> str:
    """A message about a field, to be written right behind the field's name: “Rate limit must be a number”, but “Which
    deliveries: choose which to send again”.
    """
    return f" {message}" if message.partition(" ")[0] in _PREDICATES else f": {message}"


def _age(seconds: float) -> str | None:
    for length, name in _AGES:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''}"
    return None if seconds < 1 else f"{int(seconds)} s"


def _marked(found: re.Match[str]) -> str:
    try:
        at = datetime.strptime(found[0], "%d %b %Y, %H:%M:%S.%f UTC").replace(tzinfo=UTC)
    except ValueError:  # people may write of a 31st of February
        return found[0]
    iso = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'<time datetime="{iso}" title="{iso}" data-moment="ms">{found[0]}</time>'


def _exact(at: datetime) -> str:
    return moment_words(at.astimezone(UTC), milliseconds=False)


def _time(at: datetime, text: str, *, kind: Literal["moment", "ago"]) -> Markup:
    """The text as a time: the exact one is in its title, and page.js finds it by its kind."""
    iso = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    title = iso if kind == "moment" else _exact(at)
    return Markup('<time datetime="{}" title="{}" data-{}>{}</time>').format(iso, title, kind, text)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "moment": moment,
    "ago": ago,
    "duration": durations.shown,
    "span": durations.span,
    "bytes": size,
    "capitalize_first": capitalize_first,
    "full_sentence": full_sentence,
    "after_label": after_label,
    "field_value": moment_field,
    "is_moment": is_moment,
    "exact": exact_moment,
    "actor": actor,
    "plain": plain,
    "timed": timed,
    "explain_error": explain_error,
    "status_text": status_text,
}
