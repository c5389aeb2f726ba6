"""`hookledger rebuild`, `explain` and `audit`: the proofs of `daemon.audit` at a terminal."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import click

import daemon.audit
from daemon import route_state
from daemon.audit import BEGINNING, END, AuditReport, DeliverySchedule, Explanation, Rebuilt
from daemon.cli.auditing import seal_audit
from daemon.cli.console import output, parsing
from daemon.cli.console.failures import EXIT_FAILED, CliError
from daemon.cli.peer import LiveProjection, fetch_projection
from daemon.cli.store import config_option, settings, tenant_option, with_store
from daemon.core.routing.current import CurrentRoutes
from daemon.route_state import FoldedLog
from daemon.runtime.tasks import TaskGroup
from daemon.sealing.auditing import audit_seals
from daemon.sealing.report import SealReport
from daemon.store import existing_vault, keep_of
from daemon.web.api.auditing.audit import of_explanation
from daemon.web.api.events.sources import of_place
from daemon.web.http import shapes
from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.sources import standing
from eventstore.sources.standing import MessagePlace

# How long `rebuild --against` waits for a daemon that is behind the log. A healthy one needs milliseconds.
AGREE_SECONDS = 10.0

# Processes of an audit. PostgreSQL needs cores too, and a connection for each.
MANY_PROCESSES, MOST_PROCESSES = 4, 32


@click.command()
@click.option("--as-of", type=parsing.timestamp, metavar="TS", help="The routes as they were at that moment.")
@tenant_option
@click.option("--against", metavar="URL", help="Compare with the live projection of the daemon there.")
@click.option(
    "--expect",
    type=parsing.log_head,
    metavar="POS:HASH",
    help="What was noted of this log before, as `head` of a rebuild: fail unless it is still so.",
)
@click.option(
    "--token",
    type=parsing.token,
    metavar="TOKEN",
    envvar="HOOKLEDGER_TOKEN",
    help="A token for --against [variable: HOOKLEDGER_TOKEN].",
)
@config_option
@output.json_option
def rebuild(
    as_of: datetime | None,
    tenant: str | None,
    against: str | None,
    expect: parsing.LogHead | None,
    token: str | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Fold the route log from nothing and verify its hash chain.

    Prints the state and its digest. With --against, exits with 1 if the live projection of that daemon differs. With
    --expect, exits with 1 if the log has another hash at that position, or ends before it: somebody has rewritten it,
    or an older state was restored.
    """
    if against is not None and (as_of is not None or tenant is not None):
        raise click.UsageError("--against compares all routes as they are now: leave --as-of and --tenant out")
    config = settings(config_file)

    marked = None if expect is None else expect.position

    async def work(database: Database) -> tuple[Rebuilt, LiveProjection | None]:
        if against is None:
            return await daemon.audit.rebuild(database, as_of=as_of, tenant=tenant, marked=marked), None
        return await _at_one_position(database, against, token, marked=marked)

    route_state.collect_seldom()
    with output.working("folding the route log"):
        rebuilt, live = with_store(config, work)
    with output.even_unread():
        _print_rebuilt(rebuilt, as_json=as_json)
    if expect is not None:
        _expect(rebuilt, expect)
    if live is not None:
        _compare(rebuilt, live, against or "")


@click.command()
@click.argument("event_id", metavar="EVENT_ID")
@tenant_option
@click.option("--route", "route_id", type=parsing.route_id, metavar="R", help="Only this route.")
@click.option(
    "--recorded-at",
    type=parsing.timestamp,
    metavar="TS",
    help="Of several events with this id, which are days apart, the one recorded then [the newest].",
)
@config_option
@output.json_option
def explain(
    event_id: str,
    tenant: str | None,
    route_id: UUID | None,
    recorded_at: datetime | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Say for each route why an event was or was not sent."""

    async def work(database: Database) -> tuple[Sequence[Explanation], MessagePlace | None]:
        found = await daemon.audit.explain(
            database, event_id, tenant=tenant, recorded_at=recorded_at, route_id=route_id
        )
        event, *_ = await domain_events.find(database, event_id, tenant=tenant, recorded_at=recorded_at)
        return found, await standing.place_of(database, event.seq, recorded_at=event.recorded_at)

    explanations, place = with_store(settings(config_file), work)
    if not explanations and route_id is not None:
        raise CliError(f"the tenant of event {event_id} has no route {route_id}", hint="hookledger routes list")
    if as_json:
        message = {} if place is None else {"message": of_place(place)}
        output.document([{**of_explanation(each), **message} for each in explanations])
        return
    if place is not None:
        click.echo(
            f"it was message {place.offset} of {output.plain(place.topic)}, partition {place.partition}, of the source "
            f"{place.source}"
        )
    if not explanations:
        click.echo("the tenant of this event never had a route, so it was not due")
    for each in explanations:
        _print_explanation(each)


@click.command()
@click.option("--from", "start", type=parsing.timestamp, metavar="TS", help="Events recorded since [the beginning].")
@click.option("--to", "end", type=parsing.timestamp, metavar="TS", help="Events recorded before [the end].")
@tenant_option
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=MOST_PROCESSES),
    metavar="N",
    help=f"Judge in so many processes [one for each core, up to {MANY_PROCESSES}].",
)
@seal_audit.anchors_option
@seal_audit.key_option
@config_option
@output.json_option
def audit(
    start: datetime | None,
    end: datetime | None,
    tenant: str | None,
    processes: int | None,
    anchors: str | None,
    key_file: Path | None,
    config_file: Path | None,
    as_json: bool,
) -> int:
    """Recompute every decision of a period and compare it with the record.

    Also compares the logs with each other, and recomputes the seals, unless it is for one tenant: they cover all. Exits
    with 1 if there is a finding: a delivery that is missing, one that was not due, something that cannot have come
    about or is not as it was sealed. Also if nothing could be judged, or not all of it, or it is not known who signed.
    """
    start, end = start or BEGINNING, end or END
    if end <= start:
        raise click.UsageError("--to must be later than --from")
    if tenant is not None and anchors is not None:
        raise click.UsageError("--anchors compares the seals, which cover all tenants: leave --tenant out")
    config = settings(config_file)
    schedule = DeliverySchedule(retry=config.retry_policy, timeout=timedelta(seconds=config.delivery.timeout_seconds))
    every = timedelta(seconds=config.seal.every_seconds)
    heads, keys = seal_audit.anchors_in(anchors), seal_audit.known_keys(config, key_file)
    if heads and not keys:
        raise click.UsageError("--anchors compares signed heads: give --key, as GET /v1/seals/key shows it")

    async def judge(database: Database) -> AuditReport:
        return await daemon.audit.audit(
            database,
            start=start,
            end=end,
            tenant=tenant,
            schedule=schedule,
            keep=keep_of(config),
            vault=existing_vault(config),
            processes=processes or min(MANY_PROCESSES, os.cpu_count() or 1),
        )

    async def work(database: Database) -> tuple[AuditReport, SealReport | None]:
        if tenant is not None:
            return await judge(database), None
        async with TaskGroup() as both:  # each computes while the database answers the other
            judging = both.create_task(judge(database))
            sealed = both.create_task(
                audit_seals(database, keys=keys, anchors=heads, start=start, end=end, every=every)
            )
        return judging.result(), sealed.result()

    route_state.collect_seldom()
    with output.working("recomputing decisions"):
        report, seals = with_store(config, work)
    with output.even_unread():
        _print_report(report, seals, as_json=as_json)
    are_seals_whole = seals is None or not (seals.findings or seals.gaps)
    return 0 if are_seals_whole and not (report.found or report.gaps) else EXIT_FAILED


async def _at_one_position(
    database: Database, url: str, token: str | None, *, marked: int | None
) -> tuple[Rebuilt, LiveProjection]:
    """The rebuilt state and the daemon's projection, both at one position; AGREE_SECONDS later, as they are.

    The log goes on while it is folded, so it is folded up to where the daemon is, and not from its beginning again.
    """
    folded = FoldedLog(CurrentRoutes(), marked=marked)
    await folded.catch_up(database)
    deadline: float | None = None
    while True:
        live = await asyncio.to_thread(fetch_projection, url, token)
        await folded.catch_up(database, upto=live.position)
        deadline = deadline or time.monotonic() + AGREE_SECONDS
        if live.position == folded.end or time.monotonic() > deadline:
            return folded.rebuilt(), live
        await asyncio.sleep(0.1)


def _expect(rebuilt: Rebuilt, expected: parsing.LogHead) -> None:
    hint = "somebody has rewritten the log, or an older state of the database was restored: compare it with a backup"
    if rebuilt.hash_at is None:
        raise CliError(
            f"the route log ends at position {rebuilt.end}, and had position {expected.position} before: "
            f"{_events(expected.position - rebuilt.end)} gone",
            hint=hint,
        )
    if rebuilt.hash_at != expected.hash:
        raise CliError(
            f"position {expected.position} of the route log has hash {rebuilt.hash_at.hex()}, and had "
            f"{expected.hash.hex()} before: it, or one before it, is not what was written",
            hint=hint,
        )
    output.note(f"at position {expected.position} the route log is as it was")


def _events(number: int) -> str:
    return "1 lifecycle event is" if number == 1 else f"{number} lifecycle events are"


def _head(rebuilt: Rebuilt) -> str | None:
    """What `--expect` takes later; None for an empty log."""
    return f"{rebuilt.position}:{rebuilt.head.hex()}" if rebuilt.position else None


def _compare(rebuilt: Rebuilt, live: LiveProjection, url: str) -> None:
    if live.position != rebuilt.position:
        raise CliError(
            f"the daemon at {url} is at position {live.position}, the log at {rebuilt.position}",
            hint="see whether that daemon uses this database, and whether it is ready",
        )
    if live.state_sha256 != rebuilt.state_sha256:
        raise CliError(
            f"the daemon at {url} has another state at position {live.position}: {live.state_sha256}",
            hint="restart that daemon, and report it: its projection does not follow from the log",
        )
    output.note(f"the same as the live projection of {url}")


def _print_rebuilt(rebuilt: Rebuilt, *, as_json: bool) -> None:
    if as_json:
        output.document(
            {
                "position": rebuilt.position,
                "head": _head(rebuilt),
                "state_sha256": rebuilt.state_sha256,
                "routes": output.part(rebuilt.state_json),
            }
        )
        return
    columns = ("id", "tenant", "name", "status", "version", "pos", "event types", "windows")
    rows = [
        (r.id, r.tenant, r.config.name, r.status, r.version, r.pos, r.config.event_types, len(r.windows))
        for r in rebuilt.routes
    ]
    output.table(columns, rows, empty="the route log has no routes for this")
    output.fields(
        [
            ("position", rebuilt.position),
            ("head", _head(rebuilt)),
            ("state sha256", rebuilt.state_sha256),
            ("hash chain", "whole"),
        ]
    )


def _print_explanation(each: Explanation) -> None:
    click.echo(click.style(f"{output.plain(each.route_name)} ({each.route_id}): {each.verdict}", bold=True))
    click.echo(f"  {output.plain(each.detail)}")
    window = each.window
    period = "none was open" if window is None else f"{output.cell(window.start)} … {output.cell(window.end)}"
    click.echo(f"  window    {period}")
    if each.delivery_id is not None:
        click.echo(f"  delivery  {each.delivery_id}")
    for attempt in each.attempts:
        if attempt.number == 0:  # it ended without a request
            click.echo(f"  {attempt.outcome} at {output.cell(attempt.started_at)}")
            continue
        answer = attempt.error or attempt.status_code
        click.echo(
            f"  attempt {attempt.number}  {output.cell(attempt.started_at)}  {attempt.duration_ms} ms  "
            f"{attempt.outcome}  {output.cell(answer)}"
        )


def _print_report(report: AuditReport, seals: SealReport | None, *, as_json: bool) -> None:
    counts = {name: getattr(report, name) for name in ("events", "pairs", "deliveries", "outcomes", "unread")}
    if as_json:
        findings = [
            {
                "kind": f.kind,
                "table": f.table,
                "key": f.key,
                "event": f.event_id,
                "tenant": f.tenant,
                "route": None if f.route_id is None else str(f.route_id),
                "detail": f.detail,
            }
            for f in report.findings
        ]
        kept_from = shapes.moment(report.kept_from)
        sealed = {} if seals is None else {"seals": seal_audit.document(seals)}
        output.document(
            counts
            | {"kept_from": kept_from, "gaps": report.gaps, "unchecked": report.unchecked}
            | {"found": report.found, "findings": findings}
            | sealed
        )
        return
    if report.kept_from is not None:
        output.note(f"what was recorded before {output.cell(report.kept_from)} is no longer kept, and was not audited")
    for gap in report.gaps + report.unchecked:
        output.note(gap)
    if report.broken_off is not None:
        output.note(f"it broke off with: {output.plain(report.broken_off)}")
    rows = [(f.kind, f.table, f.key, f.event_id, f.tenant, f.detail) for f in report.findings]
    columns = ("finding", "table", "key", "event", "tenant", "detail")
    output.table(columns, rows, empty=_summary(report))
    if report.found > len(report.findings):
        output.note(f"and {report.found - len(report.findings):,} more findings")
    output.fields([(name, f"{count:,}") for name, count in counts.items()])
    if seals is not None:
        seal_audit.show(seals)


def _summary(report: AuditReport) -> str:
    if not report.events:
        return "nothing was judged"
    return "what has been read is accounted for, and nothing was sent that was not due"
