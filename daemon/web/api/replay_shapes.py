"""What replays and retries by hand take and answer."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from daemon.core.event import instant
from daemon.replays import Wanted
from daemon.web.forms import Command
from daemon.web.shapes import Moment, Uuid, moment
from eventstore.replays import Replay
from eventstore.requeue import Requeued

_MOMENT = {"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00Z"]}


class ReplayState(StrEnum):
    """A replay is done once each of its deliveries was tried."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


def _instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a text")
    try:
        return instant(value)
    except ValueError as error:
        raise PydanticCustomError("instant", "{reason}", {"reason": str(error)}) from error


def _wanted(value: object) -> Wanted:
    if value not in ("failed", "all"):
        raise PydanticCustomError("wanted", "must be failed or all")
    return Wanted(str(value))


Instant = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema(_MOMENT)]


class ReplayForm(Command):
    """A period of event time, from (inclusive) to (exclusive)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"from": "2026-11-23T08:00:00Z", "to": "2026-11-23T09:00:00Z", "status": "failed"}]
        }
    )

    since: Annotated[Instant, Field(alias="from")]
    until: Annotated[Instant, Field(alias="to")]
    status: Annotated[
        Wanted,
        BeforeValidator(_wanted),
        WithJsonSchema(
            {
                "type": "string",
                "enum": list(Wanted),
                "description": "failed: deliveries that failed for good; all: those that were delivered too.",
            }
        ),
    ]
    dry_run: Annotated[bool, Field(description="Counts, and sends nothing.")] = False


class RetriedShape(TypedDict):
    """A delivery that is tried again now.

    `state` is due: its request starts at once; under_way: it has started, or is about to; in_line: it waits for its
    first attempt, in the order of its route.
    """

    id: Uuid
    state: Annotated[str, WithJsonSchema({"type": "string", "enum": [it.value for it in Requeued if it != "gone"]})]


class ReplayCountShape(TypedDict):
    """How many deliveries a replay would send, of events from `replayable_from` on."""

    count: Annotated[int, Field(ge=0, examples=[42])]
    replayable_from: Moment


ReplayPeriodShape = TypedDict("ReplayPeriodShape", {"from": Moment, "to": Moment})


class ReplayShape(ReplayPeriodShape):
    """A replay. `total` deliveries of events from `replayable_from` on belonged to it when it began; `scheduled` of
    them were put in line, unless they were sent meanwhile or their event is gone; `waiting` of those are in line now,
    and `withdrawn` ones were taken out by a cancel. `detail` says why it was cancelled.
    """

    id: Uuid
    route: Uuid
    status: Wanted
    replayable_from: Moment
    state: ReplayState
    detail: Annotated[str | None, Field(examples=[None])]
    total: Annotated[int, Field(ge=0, examples=[42])]
    scheduled: Annotated[int, Field(ge=0, examples=[42])]
    waiting: Annotated[int, Field(ge=0, examples=[2])]
    withdrawn: Annotated[int, Field(ge=0, examples=[0])]
    actor: Annotated[str, Field(examples=["admin"])]
    reason: Annotated[str | None, Field(examples=["the shop was down"])]
    created_at: Moment
    ended_at: Annotated[Moment | None, Field(examples=[None])]


def of_replay(replay: Replay) -> ReplayShape:
    return {
        "id": str(replay.id),
        "route": str(replay.route_id),
        "status": Wanted(replay.wanted),
        "from": moment(replay.since),
        "to": moment(replay.until),
        "replayable_from": moment(replay.sendable_from),
        "state": ReplayState(replay.state),
        "detail": replay.detail,
        "total": replay.total,
        "scheduled": replay.scheduled,
        "waiting": replay.waiting,
        "withdrawn": replay.withdrawn,
        "actor": replay.actor,
        "reason": replay.reason,
        "created_at": moment(replay.created_at),
        "ended_at": moment(replay.ended_at),
    }
