"""Replays at a terminal: the deliveries of a route and a period sent again. A daemon that runs carries them out."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TypedDict, Unpack
from uuid import UUID

import click

from daemon.cli.console import output, parsing
from daemon.cli.console.failures import CliError
from daemon.cli.store import (
    checked_vault,
    command_context,
    config_option,
    find_route,
    now,
    reason_option,
    settings,
    tenant_option,
    with_store,
)
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayCount, ReplayPeriod, ReplayStatus
from daemon.web.api.deliveries import replays as shapes
from eventstore.postgres.connect import Database
from eventstore.progress import replays as recorded_replays
from eventstore.progress.replays import Replay

MOST_LISTED = 100


class ReplayChoice(TypedDict):
    """The options that choose deliveries. Without `until` the period ends now."""

    since: datetime
    until: datetime | None
    status: str
    tenant: str | None


_route_argument = click.argument("route_id", type=parsing.route_id, metavar="ROUTE")


@click.command("replay")
@_route_argument
@click.option("--from", "since", type=parsing.timestamp, required=True, metavar="TS", help="Of events since then.")
@click.option("--to", "until", type=parsing.timestamp, metavar="TS", help="Of events before then; now.")
@click.option(
    "--status",
    type=click.Choice([each.value for each in ReplayStatus]),
    default=ReplayStatus.FAILED.value,
    show_default=True,
    help="failed: what failed for good; all: what was delivered, too.",
)
@click.option("--dry-run", is_flag=True, help="Count, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@tenant_option
@reason_option
@config_option
@output.json_option
def replay(
    route_id: UUID,
    dry_run: bool,
    yes: bool,
    reason: str | None,
    config_file: Path | None,
    as_json: bool,
    **choice: Unpack[ReplayChoice],
) -> None:
    """Send the deliveries of a route and a period again, with the same webhook-ids.

    Counts them first, and asks. Events from before the route was last enabled are never sent. A daemon that runs sends
    the others, not faster than the route allows.
    """
    period = ReplayPeriod(since=choice["since"], until=choice["until"] or now())
    if period.since >= period.until:
        raise click.UsageError("--from must be before --to")
    wanted, config = ReplayStatus(choice["status"]), settings(config_file)

    async def counted(database: Database) -> ReplayCount:
        return await replays.count(database, await find_route(database, route_id, choice["tenant"]), period, wanted)

    async def begun(database: Database) -> Replay:
        route = await find_route(database, route_id, choice["tenant"])
        macs = (await checked_vault(config, database)).log_macs
        return await replays.begin(database, route, period, wanted, command_context(reason), macs=macs)

    if dry_run or not yes:
        found = with_store(config, counted)
        if dry_run:
            _print_count(found, as_json=as_json)
            return
        _confirm(found)
    _print_replay(with_store(config, begun), as_json=as_json)


@click.command("replays")
@_route_argument
@tenant_option
@config_option
@output.json_option
def list_replays(route_id: UUID, tenant: str | None, config_file: Path | None, as_json: bool) -> None:
    """List the replays of a route, newest first, and how far each is."""

    async def work(database: Database) -> list[Replay]:
        return await recorded_replays.of_route(
            database, (await find_route(database, route_id, tenant)).id, limit=MOST_LISTED
        )

    found = with_store(settings(config_file), work)
    if as_json:
        output.document([shapes.of_replay(each) for each in found])
        return
    columns = ("id", "from", "to", "status", "state", "deliveries", "queued", "waiting", "begun", "by")
    rows = [
        (
            *(each.id, each.since, each.until, each.wanted, each.state, each.total, each.scheduled, each.waiting),
            *(each.created_at, each.actor),
        )
        for each in found
    ]
    output.table(columns, rows, empty="there are no replays of this route")


@click.command("cancel-replay")
@_route_argument
@click.argument("replay_id", type=click.UUID, metavar="REPLAY")
@tenant_option
@reason_option
@config_option
@output.json_option
def cancel_replay(
    route_id: UUID,
    replay_id: UUID,
    tenant: str | None,
    reason: str | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Cancel a replay. What it has not queued yet stays as it is."""

    async def work(database: Database) -> Replay:
        route = await find_route(database, route_id, tenant)
        found = await replays.find(database, route, replay_id)
        if found is None:
            hint = f"hookledger deliveries replays {route_id}"
            raise CliError(f"route {route_id} has no replay {replay_id}", hint=hint)
        return await replays.cancel(database, found, command_context(reason))

    _print_replay(with_store(settings(config_file), work), as_json=as_json)


def _confirm(found: ReplayCount) -> None:
    if not found.deliveries:
        raise CliError("there is nothing to send again", hint="a longer period, or --status all")
    what = "1 delivery" if found.deliveries == 1 else f"{found.deliveries:,} deliveries"
    click.echo(f"{what} of events from {output.cell(found.sendable_from)} on would be sent again.", err=True)
    if output.ask("Send them? [y/N]").lower() not in ("y", "yes"):
        raise CliError("nothing was sent", hint="answer y, or pass --yes")


def _print_count(found: ReplayCount, *, as_json: bool) -> None:
    if as_json:
        output.document(shapes.of_count(found))
        return
    output.fields([("deliveries", found.deliveries), ("of events from", found.sendable_from)])


def _print_replay(replay: Replay, *, as_json: bool) -> None:
    if as_json:
        output.document(shapes.of_replay(replay))
        return
    output.fields(
        [
            ("id", replay.id),
            ("route", replay.route_id),
            ("status", replay.wanted),
            ("from", replay.since),
            ("to", replay.until),
            ("of events from", replay.sendable_from),
            ("state", replay.state),
            ("because", replay.detail),
            ("deliveries", replay.total),
            ("queued", replay.scheduled),
            ("waiting", replay.waiting),
        ]
    )
