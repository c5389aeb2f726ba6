"""What an audit and its processes tell each other: orders, then ranges of events, each of which is answered.

A frame is a length and a pickle. Both ends are the same program, and nothing that anybody published is pickled but the
ids in findings, as texts.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from daemon.audit.faults.pair_faults import DeliverySchedule
from daemon.audit.findings import AuditReport
from daemon.audit.pages import AuditScope, SeqRange
from daemon.audit.ranged_counts import RangedCounts
from eventstore.queries.auditing.log_marks import AuditedRange

LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOrders:
    """What a process needs to judge any part. `ranges` are those of parked deliveries when the audit began."""

    database_url: str
    scope: AuditScope
    schedule: DeliverySchedule | None
    ranges: Sequence[AuditedRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """What was found in a part, and how many deliveries of it each range of parked ones stands for."""

    report: AuditReport
    counts: RangedCounts


class PartFault(StrEnum):
    """Why a part was not judged."""

    UNAVAILABLE = "unavailable"
    CHAIN_BROKEN = "chain_broken"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFailure:
    """An error as a process tells it. `pos` is the position of the route log that is broken, else 0."""

    fault: PartFault
    message: str
    hint: str = ""
    pos: int = 0


PartReply = PartReport | PartFailure


def encode(message: PartOrders | SeqRange | PartReply) -> bytes:
    """The frame of a message."""
    body = pickle.dumps(message)
    return LENGTH.pack(len(body)) + body


def decode(body: bytes) -> object:
    """The message of a frame, without its length."""
    return pickle.loads(body)  # noqa: S301 - from the same program, by a pipe
