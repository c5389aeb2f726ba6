"""`hookledger publish`: domain events from NDJSON straight into the database.

The one thing to know: it may be run again at any time. Each batch is durable before it is counted. The same
(tenant, id) within 24 hours is one event, and a line without an id gets an id made of its number and content. So a
second run finds the stored events as duplicates and stores the rest. Memory is constant: a batch ends at a number of
events or of bytes, and a line that is too long is not kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import click

from daemon.catalogue import FRESH_SECONDS, Catalogue
from daemon.cli.console import file_input, output
from daemon.cli.console.failures import EXIT_FAILED
from daemon.cli.console.file_input import chunks
from daemon.cli.store import config_option, now, settings, with_store
from daemon.core.events import event
from daemon.core.events.catalogue import KnownTypes
from daemon.core.events.event import FieldProblem, IncomingEvent
from daemon.core.events.ndjson import Line, LineSplitter
from daemon.runtime.tasks import TaskGroup
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

BATCH_EVENTS = 1_000
BATCH_BYTES = 8 << 20
BATCH_SECONDS = 30.0
# No event waits longer for those that come after it. A file has a batch together sooner.
HOLD_SECONDS = 0.2

# Further bad lines are only counted: the first ones show that it is the wrong file.
MOST_REPORTED = 20

# After so many lines the task that stores the previous batch gets a turn of the event loop.
YIELD_LINES = 10


@click.command()
@click.argument("file", type=click.File("rb"), default="-", metavar="[FILE|-]")
@click.option("--tenant", metavar="T", help="The tenant of lines that name none; lines of another one are rejected.")
@click.option("--backfill", is_flag=True, help="Keep the events, but never deliver them by themselves.")
@config_option
@output.json_option
def publish(file: BinaryIO, tenant: str | None, backfill: bool, config_file: Path | None, as_json: bool) -> int:
    """Publish domain events from NDJSON.

    Each line is one event, as in POST /v1/events. Bad lines are reported on stderr with number and reason, up to 20 of
    them; good ones are stored. Within 24 hours the same file may be published again: what is stored already counts as
    a duplicate. A line without an id gets one made of its number and content; give ids if two files may have the same
    line in the same place. How many such lines were left out is said on stderr.

    Exits with 1 if a line was rejected.
    """
    if tenant is not None and (problem := event.tenant_problem(tenant)) is not None:
        raise click.BadParameter(problem, param_hint="--tenant")
    config = settings(config_file)
    summary = Summary()

    async def work(database: Database) -> None:
        catalogue = Catalogue(database, is_strict=config.events.strict_types)
        with file_input.read_progress(file) as progress:
            rules = Rules(max_bytes=config.events.max_bytes, tenant=tenant, backfill=backfill)
            try:
                async with TaskGroup() as group:
                    await _Publisher(database, group, catalogue, rules, summary, progress.report).publish(
                        file, progress.advance
                    )
            finally:
                if summary.rejected > MOST_REPORTED:
                    progress.report(f"and {summary.rejected - MOST_REPORTED:,} more")

    try:
        with_store(config, work)
    except* StoreUnavailable:
        if summary.upto_line:
            output.note(f"published up to line {summary.upto_line}: run the same command again to go on from there")
        raise
    with output.even_unread():
        _print(summary, as_json=as_json)
    if summary.repeated:
        output.note(_of_repeated(summary.repeated))
    return EXIT_FAILED if summary.rejected else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The limits for a line, and the tenant and backfill flag that the command adds to it."""

    max_bytes: int
    tenant: str | None = None
    backfill: bool = False
    known_types: KnownTypes | None = None


@dataclass(slots=True, kw_only=True)
class Summary:
    """Counts of lines. Every line up to `upto_line` is stored or rejected. `repeated` are duplicates without an id."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    repeated: int = 0
    upto_line: int = 0


@dataclass(frozen=True, slots=True)
class JudgedLine:
    """The event in a line, and whether its id was made here."""

    event: NewEvent
    has_made_id: bool


def judge(line: Line, rules: Rules) -> JudgedLine | tuple[FieldProblem, ...]:
    """The event in a line, or all of its problems."""
    if line.text is None:
        message = (
            f"the event has {line.size_bytes} bytes, {rules.max_bytes} are allowed: send a reference to large data"
        )
        return (FieldProblem(field="", message=f"{message} instead"),)
    type_test = None if rules.known_types is None else rules.known_types.problem
    incoming = event.parse(line.text, now=now(), max_bytes=rules.max_bytes, tenant=rules.tenant, type_test=type_test)
    if not isinstance(incoming, IncomingEvent):
        return incoming
    made = NewEvent(
        tenant=incoming.tenant,
        id=made_id(line.number, line.text) if incoming.id is None else incoming.id,
        type=incoming.type,
        data=incoming.data,
        occurred_at=incoming.occurred_at,
        context=incoming.context,
        snapshot=incoming.snapshot,
        backfill=incoming.backfill or rules.backfill,
    )
    return JudgedLine(made, has_made_id=incoming.id is None)


def made_id(number: int, text: bytes) -> str:
    """The id for an event without one. It depends on line number and content only, so that a rerun is harmless."""
    return "evt_" + hashlib.sha256(b"%d\n%b" % (number, text)).hexdigest()[:32]


class _Publisher:
    """Collects a batch while the previous one is being stored, so that client and server work at the same time."""

    def __init__(
        self,
        database: Database,
        group: TaskGroup,
        catalogue: Catalogue,
        rules: Rules,
        summary: Summary,
        report: Callable[[str], None],
    ) -> None:
        self._database = database
        self._group = group
        self._catalogue = catalogue
        self._types_read_at = -math.inf
        self._rules = rules
        self._summary = summary
        self._report = report
        self._batch: list[NewEvent] = []
        self._batch_bytes = 0
        self._batch_began_at = 0.0
        self._made_ids: set[str] = set()
        self._storing: asyncio.Task[None] | None = None

    async def publish(self, file: BinaryIO, advance: Callable[[int, str], None]) -> None:
        """Publishes all of `file`. When a pipe falls silent, or is slow, the lines read so far are stored at once."""
        splitter = LineSplitter(max_bytes=self._rules.max_bytes)
        async for chunk in chunks(file):
            await self._renew_types()
            for line in splitter.feed(chunk):
                await self._add(line)
            if not chunk or (self._batch and time.monotonic() - self._batch_began_at >= HOLD_SECONDS):
                await self._store(upto_line=splitter.ended)
            advance(len(chunk), f"{self._summary.accepted + self._summary.duplicates:,} events")
        for line in splitter.end():
            await self._add(line)
        await self._store(upto_line=splitter.ended)
        await self._until_stored()

    async def _renew_types(self) -> None:
        """The catalogue may change while a pipe is read, which may take days. Raises StoreUnavailable."""
        now_seconds = time.monotonic()
        if now_seconds - self._types_read_at >= FRESH_SECONDS:
            self._rules = replace(self._rules, known_types=await self._catalogue.known_types())
            self._types_read_at = now_seconds

    async def _add(self, line: Line) -> None:
        judged = judge(line, self._rules)
        if isinstance(judged, JudgedLine):
            if not self._batch:
                self._batch_began_at = time.monotonic()
            self._batch.append(judged.event)
            self._batch_bytes += line.size_bytes
            if judged.has_made_id:
                self._made_ids.add(judged.event.id)
        else:
            self._summary.rejected += 1
            if self._summary.rejected <= MOST_REPORTED:
                self._report(f"line {line.number}: {'; '.join(_sentence(problem) for problem in judged)}")
        if len(self._batch) >= BATCH_EVENTS or self._batch_bytes >= BATCH_BYTES:
            await self._store(upto_line=line.number)
        elif line.number % YIELD_LINES == 0:
            await asyncio.sleep(0)

    async def _store(self, *, upto_line: int) -> None:
        """Waits until the previous batch is stored, and starts to store this one."""
        await self._until_stored()
        self._storing = self._group.create_task(self._publish_batch(self._batch, self._made_ids, upto_line))
        self._batch, self._batch_bytes, self._made_ids = [], 0, set()

    async def _until_stored(self) -> None:
        if self._storing is not None:
            await asyncio.wait({self._storing})

    async def _publish_batch(self, batch: list[NewEvent], made_ids: set[str], upto_line: int) -> None:
        fresh = await domain_events.publish(self._database, batch, seconds=BATCH_SECONDS)
        self._summary.accepted += sum(fresh)
        self._summary.duplicates += len(fresh) - sum(fresh)
        if made_ids:
            known = zip(batch, fresh, strict=True)
            self._summary.repeated += sum(not is_fresh and event.id in made_ids for event, is_fresh in known)
        self._summary.upto_line = upto_line


def _sentence(problem: FieldProblem) -> str:
    return f"{problem.field}: {problem.message}" if problem.field else problem.message


def _print(summary: Summary, *, as_json: bool) -> None:
    counts = {name: count for name, count in asdict(summary).items() if name not in {"upto_line", "repeated"}}
    if as_json:
        output.document(counts)
    else:
        output.fields([(name, f"{count:,}") for name, count in counts.items()])


def _of_repeated(count: int) -> str:
    subject, advice = f"{count:,} lines without an id were", "each an id to publish them again"
    if count == 1:
        subject, advice = "1 line without an id was", "it an id to publish it again"
    return f"{subject} published before from the same place, within 24 hours: give {advice}"
