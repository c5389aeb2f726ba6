"""A webhook as its form has it: texts, some line by line, and what they mean as fields of a route.

The one thing to know: what was typed is compared with what the form was opened with as text, by `touched`. Only touched
fields become changes, so that whoever saves later takes nothing back of what somebody else saved meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal

from daemon.core.events.catalogue import group_of
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import ALL
from daemon.core.routing.route import RouteConfig
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.text import in_merchants_words
from daemon.web.dashboard.webhook_form import header_lines, snapshot_lines
from daemon.web.http.shapes import MASK

_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]+)?", re.ASCII)
_PAYLOAD = ("snapshot", "filter", "transform")
# Many more than a webhook may have. What is typed behind them stays one piece, and is no type.
_MOST_TYPES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTexts:
    """The form's fields. `event_types` are boxes that are checked, `other_types` those that were typed."""

    name: str = ""
    target_url: str = ""
    event_types: tuple[str, ...] = ()
    other_types: str = ""
    snapshot: str = ""
    filter: str = ""
    transform: str = ""
    headers: str = ""
    ordered: bool = False
    rate_limit_per_second: str = ""
    enabled: bool = True

    @property
    def patterns(self) -> tuple[str, ...]:
        """What is subscribed to, without what is covered by a group or by *."""
        return tidy((*self.event_types, *re.split(r"[,;\s]+", self.other_types, maxsplit=_MOST_TYPES)))

    @property
    def is_advanced(self) -> bool:
        """True if one of the fields is set that most webhooks leave alone."""
        usual = RouteTexts()
        return any(getattr(self, name) != getattr(usual, name) for name in (*_PAYLOAD, *_ADVANCED))


_ADVANCED = ("headers", "ordered", "rate_limit_per_second", "enabled")
_TOUCHABLE = tuple(field.name for field in fields(RouteTexts) if field.name not in ("other_types", "enabled"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadForm:
    """Fields as `Commands` and `preview` take them; one that could not be read is a problem, and missing here."""

    values: Mapping[str, object]
    problems: tuple[FieldProblem, ...]


def of_config(config: RouteConfig, *, values: str = MASK) -> RouteTexts:
    """The texts of a stored route, with so much in the place of each header's value."""
    rate = config.rate_limit_per_second
    return _tidied(
        RouteTexts(
            name=config.name,
            target_url=config.target_url,
            event_types=config.event_types,
            snapshot=snapshot_lines.written(config.payload.snapshot or ()),
            filter=config.payload.filter or "",
            transform=config.payload.transform or "",
            headers=header_lines.written(dict.fromkeys(config.header_names, values)),
            ordered=config.ordered,
            rate_limit_per_second="" if rate is None else _decimal(rate),
        )
    )


def typed_in(typed: FormData) -> RouteTexts:
    """The texts that came with a form."""
    return _tidied(
        RouteTexts(
            event_types=tuple(typed.all("event_types")),
            ordered=typed.has("ordered"),
            enabled=not typed.has("disabled"),
            **{name: typed.one(name) for name in ("name", "target_url", "other_types", "headers")},
            **{name: typed.one(f"payload.{name}") for name in _PAYLOAD},
            rate_limit_per_second=typed.one("rate_limit_per_second"),
        )
    )


def read(texts: RouteTexts, *, stored_headers: Collection[str] = ()) -> ReadForm:
    """What the texts mean. A header whose value is masked keeps the stored one: its value is None."""
    snapshot, wrong_lines = snapshot_lines.read(texts.snapshot)
    headers, wrong_headers = header_lines.read(texts.headers, stored=stored_headers)
    rate = texts.rate_limit_per_second
    problems = [*wrong_lines, *wrong_headers]
    values: dict[str, object] = {
        "name": texts.name,
        "target_url": texts.target_url,
        "event_types": texts.patterns,
        "payload": {"filter": texts.filter or None, "transform": texts.transform or None},
        "ordered": texts.ordered,
        "enabled": texts.enabled,
    }
    if not wrong_lines:
        values["payload"] = {
            "snapshot": snapshot or None,
            "filter": texts.filter or None,
            "transform": texts.transform or None,
        }
    if not wrong_headers:
        values["headers"] = headers
    if not rate or _RATE.fullmatch(rate):
        values["rate_limit_per_second"] = float(rate) if rate else None
    else:
        message = "must be a number like 5 or 0.5; leave it empty for no limit"
        problems.append(FieldProblem(field="rate_limit_per_second", message=message))
    return ReadForm(values=values, problems=tuple(problems))


def touched(opened: RouteTexts, typed: RouteTexts) -> frozenset[str]:
    """The fields in which the form differs from what it was opened with."""
    changed = {name for name in _TOUCHABLE if _value(opened, name) != _value(typed, name)}
    return frozenset(changed)


def only(values: Mapping[str, object], names: Collection[str]) -> dict[str, object]:
    """Of values that were read, those of these fields of the form, as `Commands.edit` takes changes."""
    chosen = {name: value for name, value in values.items() if name in names}
    payload = values.get("payload")
    if isinstance(payload, Mapping):
        options = {name: payload[name] for name in _PAYLOAD if name in names and name in payload}
        chosen |= {"payload": options} if options else {}
    return chosen


def masked(values: Mapping[str, object]) -> dict[str, object]:
    """The same with a mask for each header that keeps its value, as a draft to be looked at has it."""
    headers = values.get("headers")
    if not isinstance(headers, Mapping):
        return dict(values)
    return {**values, "headers": {name: MASK if value is None else value for name, value in headers.items()}}


def field_of(problem: FieldProblem) -> str:
    """The field of the form that a problem is about."""
    return problem.field.removeprefix("payload.").partition(".")[0]


def merged(opened: RouteTexts, typed: RouteTexts, live: RouteTexts) -> RouteTexts:
    """What was typed, with each field that was left as it was brought to what it is now. Of types and headers, single
    ones were added and taken away.
    """
    mine = touched(opened, typed)
    kept = {name: getattr(typed if name in mine else live, name) for name in _TOUCHABLE}
    both = replace(typed, **kept)
    if "event_types" in mine:
        before, wanted = set(opened.patterns), set(typed.patterns)
        stayed = [pattern for pattern in live.patterns if pattern in wanted or pattern not in before]
        added = [pattern for pattern in tidy(typed.event_types) if pattern not in before]
        both = replace(both, event_types=tidy((*stayed, *added)))
    else:
        both = replace(both, other_types="")
    if "headers" in mine:
        both = replace(both, headers=header_lines.merged(opened.headers, typed.headers, live.headers))
    return both


def tidy(patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns, each once, without those that another one covers."""
    unique = dict.fromkeys(pattern for pattern in patterns if pattern)
    if ALL in unique:
        return (ALL,)
    return tuple(it for it in unique if it.endswith(".*") or f"{group_of(it)}.*" not in unique)


def _value(texts: RouteTexts, name: str) -> object:
    return frozenset(texts.patterns) if name == "event_types" else getattr(texts, name)


def _tidied(texts: RouteTexts) -> RouteTexts:
    """Blanks around a text are nobody's wish, and whatever ends its lines, in a form one character does."""
    names = [field.name for field in fields(texts) if isinstance(getattr(texts, field.name), str)]
    ended = {name: getattr(texts, name).replace("\r\n", "\n").replace("\r", "\n") for name in names}
    return replace(texts, **{name: text.strip() for name, text in ended.items()})


def _decimal(number: float) -> str:
    """5 of 5.0, and never 1e-05."""
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


# In the order of the form.
LABELS: Mapping[str, str] = {
    "name": "Name",
    "target_url": "Target URL",
    "event_types": "Event types",
    "payload.snapshot": "Snapshot",
    "payload.filter": "Filter",
    "payload.transform": "Transform",
    "sample_type": "Example",
    "sample_event": "Pasted event",
    "headers": "Custom headers",
    "rate_limit_per_second": "Rate limit",
    "ordered": "Order",
    "reason": "Reason",
}


def placed(problems: Iterable[FieldProblem]) -> FormErrors:
    """What is wrong, in the order of the form. A header's is that of all: they are one field."""
    places = list(LABELS)
    found = [_at_its_field(problem) for problem in problems]
    return FormErrors(sorted(found, key=lambda it: places.index(it.field) if it.field in places else len(places)))


def _at_its_field(problem: FieldProblem) -> FieldProblem:
    name, message = problem.field, in_merchants_words(problem.message).removesuffix(".")
    if name.startswith("headers."):
        return FieldProblem(field="headers", message=f"{name.removeprefix('headers.')}: {message}".removeprefix(": "))
    return FieldProblem(field=name, message=message)
