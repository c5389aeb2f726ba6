"""Sources: whether each offset that was taken is accounted for, and whether the events made of them are there.

More events than are counted are no fault: an operator may have a partition taken again from an earlier offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from daemon.audit.findings import AuditFinding, FindingKind
from eventstore.postgres.connect import Database
from eventstore.retention import retention
from eventstore.sources import standing
from eventstore.sources.standing import CountedPartition

# Events may be recorded by so much before their partition began, as clocks are set back.
_CLOCK_STEP = timedelta(days=1)


async def find(database: Database) -> list[AuditFinding]:
    """A finding for each partition whose counts, or whose events, are not whole. If retention has begun to drop events
    of a partition, only its counts are compared.
    """
    partitions = await standing.counted(database)
    # Afterwards: otherwise what retention drops meanwhile would count as missing.
    kept_from = (await retention.horizon(database)).events
    return [
        AuditFinding(
            kind=FindingKind.UNEXPLAINED,
            table="source_partition",
            key=f"source {each.source}, topic {each.topic}, partition {each.partition}",
            detail=detail,
        )
        for each in partitions
        for detail in _faults(each, is_whole=kept_from is None or kept_from <= each.began_at - _CLOCK_STEP)
    ]


def _faults(partition: CountedPartition, *, is_whole: bool) -> Iterator[str]:
    if partition.events + partition.others != partition.offsets:
        yield f"{partition.offsets} offsets were taken, and {partition.events + partition.others} are accounted for"
    if is_whole and partition.there < partition.events:
        yield f"{partition.events} of its messages became events, and {partition.there} of these are there"
