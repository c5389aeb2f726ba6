"""`hookledger sources`: tries sources of events out, lists how far they are, and mends what was refused.

`check` opens no database, unless types are strict. The others work beside daemons, and while none runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from daemon.catalogue import Catalogue
from daemon.cli.console import output
from daemon.cli.console.failures import EXIT_FAILED, CliError
from daemon.cli.store import config_option, now, settings, with_store
from daemon.config import Config
from daemon.config.event_sources import SourceSection
from daemon.core.messages import message
from daemon.core.messages.message import SourceMessage
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.loops import run_forever
from daemon.sources.batches.making import EventMaker
from daemon.sources.kafka.client import SourceFault
from daemon.sources.kafka.peeking import peeking
from daemon.sources.retrying import Retried, RetriedAs, retry
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.sources import positions, standing
from eventstore.sources.standing import SourcesStatus

T = TypeVar("T")

_name_argument = click.argument("name", metavar="NAME")
# What `check` says of a message that would be no event by intent.
_FILTERED = "passed over by the filter"


@click.group()
def sources() -> None:
    """Try sources of events out, and mend what they refused."""


@sources.command("check")
@_name_argument
@click.option("--last", default=10, type=click.IntRange(1, 10_000), metavar="N", help="So many messages. [10]")
@config_option
@output.json_option
def check(name: str, last: int, config_file: Path | None, as_json: bool) -> int:
    """Show what each of the last messages of a source would become.

    Reads them as the configuration says, with a consumer of no group, and takes none of them. Exits with 1 if one would
    be refused.
    """
    config = settings(config_file)
    section = _section(config, name)

    async def work(database: Database) -> list[tuple[SourceMessage, NewEvent | str | None]]:
        async with (
            _maker(config, name, database) as maker,
            peeking(name, section, max_bytes=config.events.max_bytes) as peek,
        ):
            return [(each, await maker.event(each)) for each in await peek.last(last)]

    judged = _reporting_faults(
        lambda: with_store(config, work) if config.events.strict_types else asyncio.run(work(_nowhere()))
    )
    documents = [_document(each, made) for each, made in judged]
    with output.even_unread():
        if as_json:
            output.document(documents)
        else:
            columns = ("topic", "partition", "offset", "time", "tenant", "type", "id", "not because")
            rows = [tuple(document[key.replace(" ", "_")] for key in columns) for document in documents]
            output.table(columns, rows, empty="there are no messages in its topics")
    return EXIT_FAILED if any(isinstance(made, str) for _, made in judged) else 0


@sources.command("list")
@config_option
@output.json_option
def list_sources(config_file: Path | None, as_json: bool) -> None:
    """List how far each partition of each source was taken, and by which daemon."""
    found: SourcesStatus = with_store(settings(config_file), standing.read)
    if as_json:
        output.document(asdict(found))
        return
    columns = (
        "source",
        "topic",
        "partition",
        "owner",
        "next",
        "lag",
        "events",
        "repeated",
        "refused",
        "filtered",
        "absent",
    )
    rows = [
        (each.source, each.topic, each.partition, each.owner, each.next_offset, each.lag, each.events, each.repeated,
         each.refused, each.filtered, each.absent)
        for each in found.partitions
    ]  # fmt: skip
    output.table(columns, rows, empty="nothing was taken of any source yet")
    for fault in found.faults:
        output.note(fault)


@sources.command("retry")
@_name_argument
@config_option
@output.json_option
def retry_refused(name: str, config_file: Path | None, as_json: bool) -> int:
    """Take the refused messages of a source again.

    Do it once the mapping, the catalogue or a limit is mended. Those that are an event now are published and leave the
    list; the others stay, with the present reason. Their events come after those that were taken meanwhile. Exits with
    1 if a message is refused still.
    """
    config = settings(config_file)
    section = _section(config, name)
    retried: list[Retried] = []

    async def work(database: Database) -> None:
        async with (
            _maker(config, name, database) as maker,
            peeking(name, section, max_bytes=config.events.max_bytes) as peek,
        ):
            async for each in retry(database, peek, maker, name):
                retried.append(each)
                if each.reason and not as_json:
                    place = f"{each.refusal.topic} {each.refusal.partition} {each.refusal.offset}"
                    output.note(f"{place}: {each.reason}")

    _reporting_faults(lambda: with_store(config, work))
    counts = Counter(each.result for each in retried)
    summary = {str(result): counts[result] for result in RetriedAs}
    with output.even_unread():
        if as_json:
            output.document(summary)
        else:
            output.fields([(result, f"{count:,}") for result, count in summary.items()])
    return EXIT_FAILED if counts[RetriedAs.REFUSED] or counts[RetriedAs.GONE] else 0


@sources.command("move")
@_name_argument
@click.option("--topic", required=True, metavar="T", help="A topic of the source.")
@click.option("--partition", type=int, metavar="N", help="One of its partitions. [all]")
@click.option("--to", "target", required=True, metavar="P", help="earliest, latest, or an offset.")
@config_option
def move(name: str, topic: str, partition: int | None, target: str, config_file: Path | None) -> None:
    """Have a source go on from another place.

    What lies between is not taken, or taken again: then events that have ids are duplicates within 24 hours of the
    first time. The counts of the partition begin anew. Daemons that run go on from there within some seconds.
    """
    config = settings(config_file)
    section = _section(config, name)
    if topic not in section.topics:
        raise click.BadParameter(f"{name} has the topics {', '.join(section.topics)}", param_hint="--topic")

    async def work(database: Database) -> dict[int, int]:
        async with peeking(name, section, max_bytes=config.events.max_bytes) as peek:
            bounds = await peek.bounds(topic)
        chosen = list(bounds) if partition is None else [partition]
        targets = {number: _target(target, *bounds[number]) for number in chosen if number in bounds}
        if not targets:
            raise CliError(f"{topic} has no partition {partition}", hint="hookledger sources list")
        await positions.begin(database, name, {(topic, number): offset for number, offset in targets.items()})
        known = await positions.read(database, name, [topic])
        for number, offset in targets.items():
            await positions.move(database, known[topic, number], offset=offset)
        return targets

    for number, offset in _reporting_faults(lambda: with_store(config, work)).items():
        click.echo(f"{topic} {number} goes on from {offset}")


@sources.command("forget")
@_name_argument
@config_option
def forget(name: str, config_file: Path | None) -> None:
    """Take a source that is no longer configured out of the status.

    How far it was taken is kept: configured again, it goes on from there. Its events and refused messages stay.
    """
    config = settings(config_file)
    if name in config.sources:
        raise CliError(f"{name} is in the configuration", hint="remove it there, and reload every daemon")

    async def work(database: Database) -> int:
        takers = [each.owner for each in (await standing.read(database)).members if each.source == name]
        if takers:
            hint = "remove it from their configuration, and reload them"
            raise CliError(f"{name} is still taken by {', '.join(takers)}", hint=hint)
        return await standing.forget(database, name)

    count = with_store(config, work)
    if not count:
        raise CliError(f"nothing was ever taken of a source {name}", hint="hookledger sources list")
    partitions = "1 partition" if count == 1 else f"{count:,} partitions"
    click.echo(f"{name}, {partitions}, is out of the status; configured again, it goes on from where it was")


def _target(text: str, begin: int, end: int) -> int:
    named = {"earliest": begin, "latest": end}
    if text in named:
        return named[text]
    if not text.isascii() or not text.isdigit() or not begin <= int(text) <= end:
        raise click.BadParameter(
            f"{text!r} is neither earliest, latest, nor an offset from {begin} to {end}", param_hint="--to"
        )
    return int(text)


def _section(config: Config, name: str) -> SourceSection:
    if name in config.sources:
        return config.sources[name]
    named = ", ".join(config.sources)
    hint = f"the configuration has {named}" if named else "add [sources.NAME] to the configuration"
    raise CliError(f"there is no source {name}", hint=hint)


def _reporting_faults(work: Callable[[], T]) -> T:
    """What a function returns; a fault of the source is a failure of the command."""
    try:
        return work()
    except SourceFault as error:
        raise CliError(str(error)) from error


@asynccontextmanager
async def _maker(config: Config, name: str, database: Database) -> AsyncIterator[EventMaker]:
    """What makes events of the messages of a source, with the process that evaluates heavy expressions."""
    evaluator = Evaluator(Metrics())
    evaluating = asyncio.create_task(run_forever("evaluator", evaluator.run_once))
    try:
        yield EventMaker(
            name,
            config.sources[name],
            max_bytes=config.events.max_bytes,
            catalogue=Catalogue(database, is_strict=config.events.strict_types),
            evaluator=evaluator,
            now=now,
        )
    finally:
        evaluating.cancel()
        await asyncio.gather(evaluating, return_exceptions=True)


def _nowhere() -> Database:
    """A database that is never asked."""
    return Database("postgresql://nowhere.invalid/nothing")


def _document(each: SourceMessage, made: NewEvent | str | None) -> dict[str, object]:
    event = made if isinstance(made, NewEvent) else None
    return {
        "topic": each.topic,
        "partition": each.partition,
        "offset": each.offset,
        "time": message.time_of(each),
        "tenant": event and event.tenant,
        "type": event and event.type,
        "id": event and event.id,
        "not_because": None if event else made if isinstance(made, str) else _FILTERED,
    }
