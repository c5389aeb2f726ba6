"""What a message of a source becomes: an event, nothing, or the reasons why it is no event.

An event is checked as over HTTP (daemon/core/events/event.py); only where it stands in a message is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from daemon.core.events import cloud_event, event
from daemon.core.events.cloud_event import NotACloudEvent
from daemon.core.events.event import FieldProblem, IncomingEvent, TypeTest
from daemon.core.messages import mapping, message
from daemon.core.messages.mapping import MappingFailed, MessageMapping
from daemon.core.messages.message import Mappable, SourceMessage
from daemon.core.webhook.expression import StepAllowance

# How the attributes of a CloudEvent begin that are headers of a message of Kafka.
CLOUD_PREFIX = "ce_"
_CLOUD_TYPE = "application/cloudevents"
# A message to map may be larger than the event that is made of it.
MAX_MAPPED_SIZES = 16

_TOMBSTONE = (
    "the message has no value, as what deletes a key of a compacted topic (a tombstone): nothing in it says what "
    'happened. With format = "mapped" expressions can make an event of its key, or a filter pass over it'
)


class Filtered(StrEnum):
    """The filter of the source passes over the message."""

    FILTERED = "filtered"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRules:
    """How the messages of a source are read. `mapping` None: they are events as over HTTP, or CloudEvents if
    `are_cloud_events`.
    """

    max_bytes: int
    mapping: MessageMapping | None = None
    are_cloud_events: bool = False


MessageResult = IncomingEvent | Filtered | tuple[FieldProblem, ...]


def read(
    given: SourceMessage,
    rules: MessageRules,
    *,
    now: datetime,
    type_test: TypeTest | None = None,
    allowance: StepAllowance | None = None,
) -> MessageResult:
    """What a message becomes. Raises TooHeavy if its expressions take more than the allowance."""
    if rules.are_cloud_events:
        return _cloud_event(given, rules, now=now, type_test=type_test)
    if rules.mapping is None:
        if given.value is None:
            return (FieldProblem(field="", message=_TOMBSTONE),)
        return event.parse(given.value, now=now, max_bytes=rules.max_bytes, type_test=type_test)
    prepared = to_map(given, rules)
    if not isinstance(prepared, Mappable):
        return prepared
    try:
        text = mapping.mapped(prepared, rules.mapping, max_bytes=rules.max_bytes, allowance=allowance)
    except MappingFailed as error:
        return of_failure(error)
    return of_mapped(text, rules, now=now, type_test=type_test)


def to_map(given: SourceMessage, rules: MessageRules) -> Mappable | tuple[FieldProblem, ...]:
    """A message as expressions take it."""
    most = rules.max_bytes * MAX_MAPPED_SIZES
    if (size := message.size_bytes(given)) > most:
        return (FieldProblem(field="", message=f"the message has {size} bytes, {most} are allowed"),)
    return message.mappable(given)


def of_mapped(
    text: bytes | None, rules: MessageRules, *, now: datetime, type_test: TypeTest | None = None
) -> MessageResult:
    """What the text that expressions have made is."""
    if text is None:
        return Filtered.FILTERED
    return event.parse(text, now=now, max_bytes=rules.max_bytes, type_test=type_test)


def of_failure(error: MappingFailed) -> tuple[FieldProblem, ...]:
    return (FieldProblem(field=error.field, message=str(error)),)


def _cloud_event(
    given: SourceMessage, rules: MessageRules, *, now: datetime, type_test: TypeTest | None
) -> IncomingEvent | tuple[FieldProblem, ...]:
    if len(given.value or b"") > rules.max_bytes:  # before it is read
        return event.parse(given.value or b"", now=now, max_bytes=rules.max_bytes)
    try:
        headers = _texts(given.headers)
        content_type = headers.get("content-type", "")
        attributes = {
            name.removeprefix(CLOUD_PREFIX): text for name, text in headers.items() if name.startswith(CLOUD_PREFIX)
        }
        if attributes and not content_type.startswith(_CLOUD_TYPE):
            made = cloud_event.binary(attributes, given.value or b"", content_type=content_type)
        elif given.value is None:
            return (FieldProblem(field="", message=_TOMBSTONE),)
        else:
            made = cloud_event.structured(given.value)
    except NotACloudEvent as error:
        return error.problems
    parsed = event.parse(made.text, now=now, max_bytes=rules.max_bytes, type_test=type_test)
    if isinstance(parsed, IncomingEvent):
        return parsed
    return tuple(cloud_event.attribute_problem(problem) for problem in parsed)


def _texts(headers: tuple[tuple[str, bytes | None], ...]) -> Mapping[str, str]:
    """The headers that say what the event is, by their names in lower case. Raises NotACloudEvent."""
    texts: dict[str, str] = {}
    for header, value in headers:
        name = header.lower()
        if value is None or not (name.startswith(CLOUD_PREFIX) or name == "content-type"):
            continue
        if name in texts:
            raise NotACloudEvent(FieldProblem(field=name, message="is given more than once as a header"))
        try:
            texts[name] = value.decode()
        except UnicodeDecodeError:
            raise NotACloudEvent(FieldProblem(field=name, message="is a header that is not UTF-8")) from None
    return texts
