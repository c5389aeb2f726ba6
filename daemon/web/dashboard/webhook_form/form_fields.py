"""The fields of a webhook's form as texts, their meaning as fields of a route, and the errors in the order of the form.

The one thing to know: `touched` compares the entered texts with those that the form was opened with. Only touched
fields become changes, so that saving does not undo what somebody else saved meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal

from daemon.core.drafts import route_draft
from daemon.core.events.event import MAX_TEXT_CHARACTERS, FieldProblem
from daemon.core.routing.index import ALL, wider_patterns
from daemon.core.routing.route import RouteConfig
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.html.text import in_merchants_words
from daemon.web.dashboard.webhook_form import header_lines, snapshot_lines
from daemon.web.http.shapes import MASK

# The labels of the fields, in the order of the form.
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
    "verification_key": "Verification key",
    "ordered": "Order",
    "reason": "Reason",
}

_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]+)?", re.ASCII)
_PAYLOAD = ("snapshot", "filter", "transform")
_ADVANCED = ("headers", "ordered", "rate_limit_per_second", "enabled", "verification_key")
# Many more than a webhook may have. The text behind them is not split, and so is no valid type.
_MAX_TYPES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTexts:
    """The texts of the form. `event_types` are the checked boxes, `other_types` a text with more types."""

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
    verification_key: str = field(default="", repr=False)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The subscribed types and groups, without those that a group or * covers."""
        return without_covered((*self.event_types, *re.split(r"[,;\s]+", self.other_types, maxsplit=_MAX_TYPES)))

    @property
    def is_advanced(self) -> bool:
        """True if one of the advanced fields differs from its default."""
        default = RouteTexts()
        return any(getattr(self, name) != getattr(default, name) for name in (*_PAYLOAD, *_ADVANCED))


_NEW_ONLY = ("enabled", "verification_key")
_TOUCHABLE = tuple(each.name for each in fields(RouteTexts) if each.name not in ("other_types", *_NEW_ONLY))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadForm:
    """Values as `Commands` and `preview` take them. A text that could not be read is a problem, and has no value."""

    values: Mapping[str, object]
    problems: tuple[FieldProblem, ...]


def of_config(config: RouteConfig, *, values: str = MASK) -> RouteTexts:
    """The texts of a stored route; `values` stands for the value of each header."""
    rate = config.rate_limit_per_second
    return _stripped(
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


def of_form(form: FormData) -> RouteTexts:
    """The texts of a submitted form."""
    return _stripped(
        RouteTexts(
            event_types=tuple(form.all("event_types")),
            ordered=form.has("ordered"),
            enabled=not form.has("disabled"),
            **{name: form.one(name) for name in ("name", "target_url", "other_types", "headers", "verification_key")},
            **{name: form.one(f"payload.{name}") for name in _PAYLOAD},
            rate_limit_per_second=form.one("rate_limit_per_second"),
        )
    )


def read(texts: RouteTexts, *, stored_headers: Collection[str] = ()) -> ReadForm:
    """The meaning of the texts. A masked header keeps its stored value: its value here is None."""
    snapshot, snapshot_problems = snapshot_lines.read(texts.snapshot)
    headers, header_problems = header_lines.read(texts.headers, stored=stored_headers)
    rate = texts.rate_limit_per_second
    problems = [*snapshot_problems, *header_problems]
    values: dict[str, object] = {
        "name": texts.name,
        "target_url": texts.target_url,
        "event_types": texts.patterns,
        "payload": {"filter": texts.filter or None, "transform": texts.transform or None},
        "ordered": texts.ordered,
        "enabled": texts.enabled,
    }
    if texts.verification_key:
        values["verification_key"] = texts.verification_key
    if not snapshot_problems:
        values["payload"] = {
            "snapshot": snapshot or None,
            "filter": texts.filter or None,
            "transform": texts.transform or None,
        }
    if not header_problems:
        values["headers"] = headers
    if not rate or _RATE.fullmatch(rate):
        values["rate_limit_per_second"] = float(rate) if rate else None
    else:
        message = "must be a number like 5 or 0.5; leave it empty for no limit"
        problems.append(FieldProblem(field="rate_limit_per_second", message=message))
    return ReadForm(values=values, problems=tuple(problems))


def touched(opened: RouteTexts, entered: RouteTexts) -> frozenset[str]:
    """The names of the fields in which the texts differ from those that the form was opened with."""
    changed = {name for name in _TOUCHABLE if _value(opened, name) != _value(entered, name)}
    return frozenset(changed)


def only(values: Mapping[str, object], names: Collection[str]) -> dict[str, object]:
    """The values of the named fields of the form, as `Commands.edit` takes changes."""
    chosen = {name: value for name, value in values.items() if name in names}
    payload = values.get("payload")
    if isinstance(payload, Mapping):
        options = {name: payload[name] for name in _PAYLOAD if name in names and name in payload}
        chosen |= {"payload": options} if options else {}
    return chosen


def masked(values: Mapping[str, object]) -> dict[str, object]:
    """The values with a mask for each header that keeps its stored value, as drafts for previews have it."""
    headers = values.get("headers")
    if not isinstance(headers, Mapping):
        return dict(values)
    return {**values, "headers": {name: MASK if value is None else value for name, value in headers.items()}}


def field_of(problem: FieldProblem) -> str:
    """The field of the form that a problem is about."""
    return problem.field.removeprefix("payload.").partition(".")[0]


def merged(opened: RouteTexts, entered: RouteTexts, live: RouteTexts) -> RouteTexts:
    """A three-way merge: touched fields as they were entered, the others as they are stored now (`live`). Event types
    and headers are merged one by one.
    """
    names = touched(opened, entered)
    result = replace(entered, **{name: getattr(entered if name in names else live, name) for name in _TOUCHABLE})
    if "event_types" in names:
        base, ours = set(opened.patterns), set(entered.patterns)
        kept = [pattern for pattern in live.patterns if pattern in ours or pattern not in base]
        added = [pattern for pattern in without_covered(entered.event_types) if pattern not in base]
        result = replace(result, event_types=without_covered((*kept, *added)))
    else:
        result = replace(result, other_types="")
    if "headers" in names:
        result = replace(result, headers=header_lines.merged(opened.headers, entered.headers, live.headers))
    return result


def errors_in_order(problems: Iterable[FieldProblem]) -> FormErrors:
    """The problems in the order of the form, where all headers are one field."""
    names = list(LABELS)
    errors = [_of_field(problem) for problem in problems]
    return FormErrors(sorted(errors, key=lambda it: names.index(it.field) if it.field in names else len(names)))


def without_covered(patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns, each once, without those that another one covers."""
    unique = dict.fromkeys(pattern for pattern in patterns if pattern)
    if ALL in unique:
        return (ALL,)
    return tuple(it for it in unique if len(it) > MAX_TEXT_CHARACTERS or not unique.keys() & {*wider_patterns(it)})


def _value(texts: RouteTexts, name: str) -> object:
    return frozenset(texts.patterns) if name == "event_types" else getattr(texts, name)


def _stripped(texts: RouteTexts) -> RouteTexts:
    """The texts without surrounding blanks, and with each line end as one line feed."""
    names = [field.name for field in fields(texts) if isinstance(getattr(texts, field.name), str)]
    normalized = {name: getattr(texts, name).replace("\r\n", "\n").replace("\r", "\n") for name in names}
    return replace(texts, **{name: text.strip() for name, text in normalized.items()})


def _decimal(number: float) -> str:
    """The shortest decimal text: 5 for 5.0, and never 1e-05."""
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _of_field(problem: FieldProblem) -> FieldProblem:
    name, message = (
        problem.field,
        in_merchants_words(problem.message).removesuffix(".").replace("empty (null)", "empty"),
    )
    if problem == route_draft.NO_EVENT_TYPES:
        message = "choose at least one, or everything"
    if name.startswith("headers."):
        return FieldProblem(field="headers", message=f"{name.removeprefix('headers.')}: {message}".removeprefix(": "))
    return FieldProblem(field=name, message=message)
