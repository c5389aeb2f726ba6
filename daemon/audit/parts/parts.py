"""An audit in several processes: the events are split into parts, and each process judges one part after the other.

What is found does not depend on it: the reports are put together in the order of the parts, by
whichever process and whenever they were made. A part that was not judged is never left out: then the whole audit fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Sequence
from pathlib import Path

import daemon
from daemon import __version__
from daemon.audit.pages import SeqRange
from daemon.audit.parts import part_messages
from daemon.audit.parts.part_messages import LENGTH, PartFailure, PartFault, PartOrders, PartReport
from daemon.runtime import open_files, program
from daemon.runtime.tasks import TaskGroup, to_its_end
from eventstore.postgres.errors import ChainBroken, StoreUnavailable

# Fewer events are judged while another process starts, which takes a second of a core.
LEAST_SEQS = 50_000
# Parts differ in what they cost, so each process gets several.
PARTS_EACH = 16


class AuditPartFailed(Exception):
    """One of several processes of an audit ended, or failed, before it had judged its part."""

    def __init__(self, message: str, *, hint: str = "repeat it with fewer --processes, if memory is short") -> None:
        super().__init__(message)
        self.hint = hint


def split(whole: SeqRange, processes: int) -> list[SeqRange]:
    """The parts for so many processes, in order; one for a small log, none for an empty one."""
    count = whole.upto - whole.after
    size = count if processes == 1 else max(LEAST_SEQS, -(-count // (processes * PARTS_EACH)))
    begins = range(whole.after, whole.upto, size) if count else ()
    return [SeqRange(after=begin, upto=min(begin + size, whole.upto)) for begin in begins]


async def judged(orders: PartOrders, parts: Sequence[SeqRange], processes: int) -> list[PartReport]:
    """The reports on these parts, in their order. Raises ChainBroken, StoreUnavailable and AuditPartFailed."""
    found: dict[int, PartReport] = {}
    waiting = iter(enumerate(parts))
    try:
        async with TaskGroup() as group:
            for _ in range(min(processes, len(parts))):
                group.create_task(_work(orders, waiting, found))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [found[place] for place in range(len(parts))]


async def _work(orders: PartOrders, waiting: Iterator[tuple[int, SeqRange]], found: dict[int, PartReport]) -> None:
    """Has a process judge parts until none is left. A part takes as long as it takes: the process has deadlines for
    every statement, and its end is the end of its pipe.
    """
    process = await _start()
    try:
        await _send(process, part_messages.encode(orders))
        for place, part in waiting:
            found[place] = await _exchange(process, part)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await to_its_end(process.wait())


async def _start() -> Process:
    open_files.require_for_start()
    folder = str(Path(daemon.__file__).parents[1])
    python_path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "daemon.audit.parts.part_process", __version__),
        stdin=PIPE,
        stdout=PIPE,
        env=os.environ | {"PYTHONPATH": python_path},
    )


async def _exchange(process: Process, part: SeqRange) -> PartReport:
    await _send(process, part_messages.encode(part))
    _, replies = _pipes(process)
    try:
        (length,) = LENGTH.unpack(await replies.readexactly(LENGTH.size))
        reply = part_messages.decode(await replies.readexactly(length))
    except asyncio.IncompleteReadError:
        raise await _ended(process) from None
    match reply:
        case PartReport():
            return reply
        case PartFailure(fault=PartFault.CHAIN_BROKEN):
            raise ChainBroken(reply.message, pos=reply.pos)
        case PartFailure(fault=PartFault.UNAVAILABLE):
            raise StoreUnavailable(reply.message, hint=reply.hint)
        case _:
            what = reply.message if isinstance(reply, PartFailure) else f"it answered with {type(reply).__name__}"
            raise AuditPartFailed(f"a process of the audit failed, so nothing is proven: {what}")


async def _send(process: Process, frame: bytes) -> None:
    orders, _ = _pipes(process)
    try:
        orders.write(frame)
        await orders.drain()
    except (BrokenPipeError, ConnectionResetError):
        raise await _ended(process) from None


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise OSError("the process has no pipes")
    return process.stdin, process.stdout


async def _ended(process: Process) -> AuditPartFailed:
    code = await process.wait()
    if code == program.OTHER_VERSION:
        replaced = "another version was installed while the audit ran, so nothing is proven"
        return AuditPartFailed(replaced, hint="repeat it")
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return AuditPartFailed(f"a process of the audit ended {how} before it had judged its part, so nothing is proven")
