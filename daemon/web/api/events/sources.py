"""Sources of events: how far each was taken, and the messages that became no event."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web.access.queries import query_database
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.shapes import Moment, moment
from daemon.web.service.events import refusal_pages
from eventstore.sources.refusals import KeptRefusal
from eventstore.sources.standing import MessagePlace, PartitionStanding, SourcesStatus

Offset = Annotated[int, Field(ge=0, examples=[42])]
OffsetCount = Annotated[int, Field(ge=0)]
SourceName = Annotated[str, Field(examples=["orders"])]
Topic = Annotated[str, Field(examples=["orders"])]
Fault = Annotated[str | None, Field(examples=[None])]


class MessagePlaceShape(TypedDict):
    """Which message of a source an event was."""

    source: SourceName
    topic: Topic
    partition: OffsetCount
    offset: Offset


class SourcePartitionShape(TypedDict):
    """A partition of a source. Each offset from `first_offset` on and before `next_offset` is counted once: as an
    event, as `repeated` if an event of its id was there, as `refused`, as `filtered`, or as `absent` if Kafka has no
    message there. `lag` is null before anybody has looked; `owner` is null if no process takes it. With a `fault` it is
    not taken until an operator moves it.
    """

    source: SourceName
    topic: Topic
    partition: OffsetCount
    owner: Annotated[str | None, Field(examples=["node-1:4711:5f2c9a"])]
    first_offset: Offset
    next_offset: Offset
    began_at: Moment
    moved_at: Moment | None
    lag: Annotated[int | None, Field(ge=0)]
    events: OffsetCount
    repeated: OffsetCount
    refused: OffsetCount
    filtered: OffsetCount
    absent: OffsetCount
    fault: Fault


class SourceMemberShape(TypedDict):
    """A process that takes a source. `fault` says what keeps it from that."""

    source: SourceName
    owner: Annotated[str, Field(examples=["node-1:4711:5f2c9a"])]
    since: Moment
    fault: Fault


class SourcesShape(TypedDict):
    """The sources of events. `refusals` says how long the list of messages is that became no event, up to 10,000."""

    partitions: list[SourcePartitionShape]
    members: list[SourceMemberShape]
    refusals: OffsetCount


class RefusalShape(TypedDict):
    """A message that became no event, and why. With `upto` it stands for all messages from `offset` on and before that:
    Kafka had deleted them before they were taken. `key` and `beginning` are the first bytes of key and value, as text.
    """

    source: SourceName
    topic: Topic
    partition: OffsetCount
    offset: Offset
    upto: Annotated[int | None, Field(examples=[None])]
    at: Moment
    reason: Annotated[str, Field(examples=["type: is missing: give it like order.create"])]
    message_at: Moment | None
    key: Annotated[str | None, Field(examples=["acme"])]
    beginning: Annotated[str | None, Field(examples=['{"shop": "acme"}'])]
    size_bytes: Annotated[int | None, Field(ge=0)]


@endpoint(Access.OPERATIONS, *paging.QUERY, answers={200: paging.Page[RefusalShape]})
async def list_refusals(request: web.Request) -> web.Response:
    """The messages of all sources that became no event, the newest first.

    `hookledger sources retry` takes them again.
    """
    found = await refusal_pages.page(query_database(request), request.query.get("cursor"), limit=paging.limit(request))
    page: paging.Page[RefusalShape] = {"items": [_of_refusal(each) for each in found.items], "next": found.next}
    return shapes.answer(page)


def of_sources(found: SourcesStatus) -> SourcesShape:
    return {
        "partitions": [_of_partition(each) for each in found.partitions],
        "members": [
            {"source": each.source, "owner": each.owner, "since": moment(each.since), "fault": each.fault}
            for each in found.members
        ],
        "refusals": found.refusals,
    }


def of_place(place: MessagePlace) -> MessagePlaceShape:
    return {"source": place.source, "topic": place.topic, "partition": place.partition, "offset": place.offset}


def _of_partition(each: PartitionStanding) -> SourcePartitionShape:
    return {
        "source": each.source,
        "topic": each.topic,
        "partition": each.partition,
        "owner": each.owner,
        "first_offset": each.first_offset,
        "next_offset": each.next_offset,
        "began_at": moment(each.began_at),
        "moved_at": moment(each.moved_at),
        "lag": each.lag,
        "events": each.events,
        "repeated": each.repeated,
        "refused": each.refused,
        "filtered": each.filtered,
        "absent": each.absent,
        "fault": each.fault,
    }


def _of_refusal(each: KeptRefusal) -> RefusalShape:
    return {
        "source": each.source,
        "topic": each.topic,
        "partition": each.partition,
        "offset": each.offset,
        "upto": each.upto,
        "at": moment(each.at),
        "reason": each.reason,
        "message_at": moment(each.message_at),
        "key": refusal_pages.text(each.key),
        "beginning": refusal_pages.text(each.beginning),
        "size_bytes": each.size_bytes,
    }
