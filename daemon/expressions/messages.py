"""The messages between the daemon and its evaluation process: a head in JSON, then bytes as they are.

A frame is two lengths, the head and the bytes. Nothing is pickled: a process that has read a hostile event must not be
able to make the daemon run code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.core.events.field_condition import FieldCondition
from daemon.core.messages.mapping import MessageMapping
from daemon.core.messages.message import Mappable
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.payload import FilterResult, PayloadEvent

LENGTHS = struct.Struct(">II")
# Either part of a reply. A text that is rendered or mapped has 64 MiB at most.
MAX_REPLY_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterJob:
    """Filters to evaluate for one event."""

    event: PayloadEvent
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob:
    """A body to render."""

    event: PayloadEvent
    options: PayloadOptions
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchJob:
    """Data of events to look into for a field."""

    condition: FieldCondition
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapJob:
    """A message of a source to make an event of."""

    message: Mappable
    mapping: MessageMapping
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterReply:
    """The results of the first filters of a job, at least one. `seconds` is the time that they took."""

    results: tuple[FilterResult, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderReply:
    """The body, or the reason why there is none. `seconds` is the time that it took."""

    body: bytes
    reason: str | None
    is_over_budget: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReply:
    """Which payloads of a job fit, in the same order. `seconds` is the time that it took."""

    fits: tuple[bool, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MapReply:
    """The text of the event, None if the filter of the source passes over the message; or the reason why there is none,
    and the field whose expression is to blame. `seconds` is the time that it took.
    """

    text: bytes | None
    field: str
    reason: str | None
    seconds: float


class NoReply(Exception):
    """What a process wrote is no reply to its job."""


EvaluationJob = FilterJob | RenderJob | MapJob | SearchJob
EvaluationReply = FilterReply | RenderReply | MapReply | SearchReply


def encode_job(job: EvaluationJob) -> bytes:
    """The frame of a job."""
    if isinstance(job, MapJob):
        return _map_frame(job)
    if isinstance(job, SearchJob):
        return _search_frame(job)
    event = job.event
    parts = (event.data, event.context, event.snapshot)
    head: dict[str, object] = {
        "id": event.event_id,
        "type": event.event_type,
        "created": event.created.isoformat(),
        "parts": [None if part is None else len(part) for part in parts],
    }
    match job:
        case FilterJob():
            head["filters"] = job.filters
        case RenderJob():
            options = job.options
            head["options"] = [options.snapshot, options.filter, options.transform]
            head["max_bytes"] = job.max_bytes
    return _frame(head, b"".join(part for part in parts if part is not None))


def decode_job(head: bytes, rest: bytes) -> EvaluationJob:
    """The job of a frame."""
    read = json.loads(head)
    if "mapping" in read:
        value = rest[read["envelope"] :] if read["has_value"] else None
        message = Mappable(envelope=rest[: read["envelope"]], value=value)
        return MapJob(message=message, mapping=MessageMapping(**read["mapping"]), max_bytes=read["max_bytes"])
    if "steps" in read:
        condition = FieldCondition(steps=tuple(read["steps"]), text=read["text"])
        return SearchJob(condition=condition, payloads=tuple(_cut(rest, read["lengths"])))
    event = _event(read, rest)
    if "filters" in read:
        return FilterJob(event=event, filters=tuple(read["filters"]))
    snapshot, test, transform = read["options"]
    options = PayloadOptions(snapshot=_selection(snapshot), filter=test, transform=transform)
    return RenderJob(event=event, options=options, max_bytes=read["max_bytes"])


def encode_reply(reply: EvaluationReply) -> bytes:
    """The frame of a reply."""
    match reply:
        case FilterReply():
            return _frame({"results": reply.results, "seconds": reply.seconds})
        case RenderReply():
            head = {"reason": reply.reason, "is_over_budget": reply.is_over_budget, "seconds": reply.seconds}
            return _frame(head, reply.body)
        case SearchReply():
            return _frame({"fits": reply.fits, "seconds": reply.seconds})
        case MapReply():
            mapped = {"field": reply.field, "is_filtered": reply.text is None}
            return _frame({**mapped, "reason": reply.reason, "seconds": reply.seconds}, reply.text or b"")


def read_reply(job: EvaluationJob, head: bytes, rest: bytes) -> EvaluationReply:
    """The reply of a frame to a job. Raises NoReply for any other bytes: a process in foreign hands may write them."""
    try:
        reply = decode_reply(head, rest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoReply(f"no reply: {type(error).__name__}") from error
    match job, reply:
        case FilterJob(), FilterReply() if 0 < len(reply.results) <= len(job.filters):
            return reply
        case SearchJob(), SearchReply() if len(reply.fits) == len(job.payloads):
            return reply
        case (RenderJob(), RenderReply()) | (MapJob(), MapReply()):
            return reply
        case _:
            raise NoReply("a reply to something else")


def decode_reply(head: bytes, rest: bytes) -> EvaluationReply:
    """The reply of a frame."""
    read = json.loads(head)
    read["seconds"] = float(read["seconds"])
    if "results" in read:
        return FilterReply(results=tuple(FilterResult(each) for each in read["results"]), seconds=read["seconds"])
    if "fits" in read:
        return SearchReply(fits=tuple(read["fits"]), seconds=read["seconds"])
    if "is_filtered" in read:
        text = None if read["is_filtered"] else rest
        return MapReply(text=text, field=read["field"], reason=read["reason"], seconds=read["seconds"])
    return RenderReply(body=rest, reason=read["reason"], is_over_budget=read["is_over_budget"], seconds=read["seconds"])


def _map_frame(job: MapJob) -> bytes:
    message, mapping = job.message, job.mapping
    head = {
        "mapping": {"fields": dict(mapping.fields), "filter": mapping.filter},
        "envelope": len(message.envelope),
        "has_value": message.value is not None,
        "max_bytes": job.max_bytes,
    }
    return _frame(head, message.envelope + (message.value or b""))


def _search_frame(job: SearchJob) -> bytes:
    condition = job.condition
    lengths = [len(each) for each in job.payloads]
    return _frame({"steps": condition.steps, "text": condition.text, "lengths": lengths}, b"".join(job.payloads))


def _cut(rest: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    begin = 0
    for length in lengths:
        yield rest[begin : begin + length]
        begin += length


def _frame(head: Mapping[str, object], rest: bytes = b"") -> bytes:
    written = json.dumps(head).encode()
    return LENGTHS.pack(len(written), len(rest)) + written + rest


def _event(read: Mapping[str, object], rest: bytes) -> PayloadEvent:
    lengths = read["parts"]
    parts: list[bytes | None] = []
    begin = 0
    for length in lengths if isinstance(lengths, list) else ():
        parts.append(None if length is None else rest[begin : begin + length])
        begin += length or 0
    data, context, snapshot = parts
    return PayloadEvent(
        event_id=str(read["id"]),
        event_type=str(read["type"]),
        created=datetime.fromisoformat(str(read["created"])),
        data=data or b"",
        context=context,
        snapshot=snapshot,
    )


def _selection(
    read: Sequence[tuple[str, Sequence[str] | None]] | None,
) -> tuple[tuple[str, tuple[str, ...] | None], ...] | None:
    if read is None:
        return None
    return tuple((entity, None if fields is None else tuple(fields)) for entity, fields in read)
