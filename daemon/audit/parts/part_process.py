"""One of several processes of an audit: reads its orders and ranges of events from standard input, answers on standard
output, and ends with its input. So it ends with the audit, however that does, at the latest after the part under way.

Like every audit it folds the route log for itself: what it judges by, it has verified.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

import uvloop

from daemon.audit.findings import AuditReport
from daemon.audit.judging import Judging
from daemon.audit.pages import SeqRange, pages
from daemon.audit.parts.part_messages import (
    LENGTH,
    PartFailure,
    PartFault,
    PartOrders,
    PartReply,
    PartReport,
    decode,
    encode,
)
from daemon.audit.ranged_counts import RangedCounts
from daemon.core.routing.index import RouteIndex
from daemon.route_state import FoldedLog, collect_seldom
from daemon.runtime import program
from daemon.store import opened
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, StoreUnavailable

# A page is read while another one is judged, and its payloads are loaded meanwhile.
_CONNECTIONS = 3


def main() -> None:
    """Judges ranges until there are no more. A terminal's Ctrl-C is for the audit, which then ends this process."""
    program.end_if_other(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.stdin.buffer, sys.stdout.buffer))


async def serve(jobs: BinaryIO, replies: BinaryIO) -> None:
    """Answers one range after the other. It may wait for its input: nothing else goes on here."""
    orders = _read(jobs)
    if not isinstance(orders, PartOrders):
        return
    own = Database(orders.database_url, pool_size=_CONNECTIONS, application_name="hookledger audit")
    try:
        async with opened(own) as database:
            folded = FoldedLog(RouteIndex())
            while isinstance(within := _read(jobs), SeqRange):
                _answer(replies, await _judged(database, orders, folded, within))
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001 - the audit says it, and that nothing is proven
        with suppress(BrokenPipeError):
            _answer(replies, _failure(error))


async def _judged(
    database: Database, orders: PartOrders, folded: FoldedLog[RouteIndex], within: SeqRange
) -> PartReport:
    await folded.catch_up(database)
    report, counts = AuditReport(), RangedCounts(orders.ranges)
    judging = Judging(database, report, orders.schedule, counts)
    async for page in pages(database, orders.scope, folded, within):
        await judging.judge(page, orders.scope.start)
    return PartReport(report=report, counts=counts)


def _failure(error: Exception) -> PartFailure:
    match error:
        case ChainBroken():
            return PartFailure(fault=PartFault.CHAIN_BROKEN, message=str(error), pos=error.pos)
        case StoreUnavailable():
            return PartFailure(fault=PartFault.UNAVAILABLE, message=str(error), hint=error.hint)
        case _:
            return PartFailure(fault=PartFault.CRASHED, message=f"{type(error).__name__}: {error}")


def _answer(replies: BinaryIO, reply: PartReply) -> None:
    replies.write(encode(reply))
    replies.flush()


def _read(jobs: BinaryIO) -> object:
    """The next message; None at the end of the input."""
    length = jobs.read(LENGTH.size)
    if len(length) != LENGTH.size:
        return None
    (count,) = LENGTH.unpack(length)
    body = jobs.read(count)
    return decode(body) if len(body) == count else None


if __name__ == "__main__":
    main()
