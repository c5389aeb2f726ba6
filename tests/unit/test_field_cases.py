"""What people in the field run into, as a table: data/field_cases.tsv has an input and what is right for it, by way.

    transform   data, expression, the body that is sent
    filter      data, expression, true or false
    snapshot    snapshot, entities with their fields, the snapshot that is sent
    time        occurred_at, –, the time in UTC
    id          id of an event, –, the id that is kept
    key         verification_key, –, the schemes that it signs in
    verify      form of the signatures, form of the key, the verdict

What begins with ! is refused, with these words in the message.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.core.drafts.verification_key import key_problem
from daemon.core.events import event
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.payload import EventFilters, PayloadEvent, render
from daemon.core.webhook.signing import SigningKey, format_key, ordergroove_signature, standard_signature, verify

TABLE = Path(__file__).parents[1] / "data" / "field_cases.tsv"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
KEY = format_key(b"\xfb\xff" * 16)


def payload_event(data: str = "{}", snapshot: str | None = None) -> PayloadEvent:
    return PayloadEvent(
        event_id="evt_1",
        event_type="order.create",
        created=NOW,
        data=data.encode(),
        context=None,
        snapshot=None if snapshot is None else snapshot.encode(),
    )


def transformed(data: str, expression: str) -> str:
    return render(payload_event(data), PayloadOptions(transform=expression), max_bytes=262_144).decode()


def filtered(data: str, expression: str) -> str:
    return json.dumps(EventFilters(payload_event(data)).holds(expression))


def selected(snapshot: str, entities: str) -> str:
    named = (entity.partition("=") for entity in entities.split(";"))
    selection = tuple((name, tuple(fields.split(",")) if is_cut else None) for name, is_cut, fields in named)
    body = render(payload_event(snapshot=snapshot), PayloadOptions(snapshot=selection), max_bytes=262_144).decode()
    return body.partition(',"snapshot":')[2].removesuffix("}")


def published(**fields: str) -> event.IncomingEvent | str:
    raw = json.dumps({"tenant": "acme", "type": "order.create", "data": {}, **fields}).encode()
    found = event.parse(raw, now=NOW, max_bytes=10_000)
    return found if isinstance(found, event.IncomingEvent) else refused(found)


def refused(problems: tuple[FieldProblem, ...]) -> str:
    return "! " + "; ".join(problem.message for problem in problems)


def at_time(occurred_at: str, _: str) -> str:
    found = published(occurred_at=occurred_at)
    return (
        found
        if isinstance(found, str)
        else str(found.occurred_at and found.occurred_at.isoformat()).replace("+00:00", "Z")
    )


def with_id(event_id: str, _: str) -> str:
    found = published(id=event_id)
    return found if isinstance(found, str) else str(found.id)


def with_key(text: str, _: str) -> str:
    problem = key_problem(text)
    if problem is not None:
        return f"! {problem}"
    return "first scheme" if SigningKey(text).standard is None else "both schemes"


FORMS: dict[str, Callable[[str], str]] = {
    "as sent": str,
    "capitals": str.upper,
    "blanks": lambda text: f" {text} ",
    "no prefix": lambda text: text.removeprefix("whsec_"),
    "no padding": lambda text: text.rstrip("="),
    "neither": lambda text: text.removeprefix("whsec_").rstrip("="),
    "url alphabet": lambda text: text.replace("+", "-").replace("/", "_"),
    "line end": lambda text: f"{text}\r\n",
    "cut": lambda text: text[:-6],
    "longer": lambda text: f"{text}00",
}


def verified(form: str, form_of_key: str) -> str:
    """Both schemes must agree; base64 has no other case."""
    at, body, keys = int(NOW.timestamp()), b"{}", [SigningKey(KEY)]
    head, _, signature = ordergroove_signature(body, timestamp=at, keys=keys).partition("sig=")
    version, _, standard = standard_signature(body, message_id="m", timestamp=at, keys=keys).partition(",")
    ours = {"OrderGroove-Signature": f"{head}sig={FORMS[form](signature)}"}
    theirs = {
        "webhook-id": "m",
        "webhook-timestamp": str(at),
        "webhook-signature": f"{version},{standard if form in ('capitals', 'blanks') else FORMS[form](standard)}",
    }
    verdicts = {verify(body, headers, FORMS[form_of_key](KEY), now=at).value for headers in (ours, theirs)}
    return verdicts.pop() if len(verdicts) == 1 else str(verdicts)


WAYS = {
    "transform": transformed,
    "filter": filtered,
    "snapshot": selected,
    "time": at_time,
    "id": with_id,
    "key": with_key,
    "verify": verified,
}


def rows() -> list[tuple[str, str, str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        head, *found = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert head == ["way", "input", "argument", "expected"]
    return [(way, given, argument, expected) for way, given, argument, expected in found]


@pytest.mark.parametrize(("way", "given", "argument", "expected"), rows())
def test_each_row_of_the_table_is_right(way: str, given: str, argument: str, expected: str) -> None:
    result = WAYS[way](given, argument)
    if expected.startswith("! "):
        assert result.startswith("! ")
        assert expected.removeprefix("! ") in result
    else:
        assert result == expected


def test_the_table_has_every_way() -> None:
    assert {way for way, *_ in rows()} == set(WAYS)
