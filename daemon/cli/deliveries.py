"""`hookledger deliveries`: the log of deliveries at a terminal, and sending some again.

They are read from the database, as the dashboard reads them, and need no daemon. A retry is carried out by one.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TypedDict, Unpack
from uuid import UUID

import click

from daemon import deliveries as log_of_deliveries
from daemon import route_state
from daemon.cli import replays
from daemon.cli.console import output, parsing
from daemon.cli.console.failures import CliError
from daemon.cli.store import checked_vault, command_context, config_option, reason_option, settings, with_store
from daemon.core.delivery.status import ListStatus
from daemon.core.events.catalogue import name_problem
from daemon.core.routing.index import RouteIndex
from daemon.core.sentences.failures import error_code
from daemon.credentials.keys import Keychain
from daemon.deliveries import DeliveryDetail, DeliveryFilter, ListedDelivery, SearchUnfinished
from daemon.deliveries.replays import retry_now, skipped
from daemon.store import open_vault
from daemon.web.api.deliveries import deliveries as shapes
from daemon.web.api.deliveries.replays import RetriedShape
from daemon.web.http.services import request_options
from eventstore.postgres.connect import Database
from eventstore.progress.manual_retry import RetryResult
from eventstore.queries.deliveries.attempts import EventAndRoute
from eventstore.queries.deliveries.delivery_log import ListPosition

MOST_LISTED = 10_000
# A page that no index helps with ends early; the next one goes on.
_PAGE = 200

_SAID = {
    RetryResult.DUE: "it is due now: a daemon that runs sends it within a moment",
    RetryResult.UNDER_WAY: "its request is under way already",
    RetryResult.IN_LINE: "it waits for its first attempt already",
}

_tenant_option = click.option("--tenant", required=True, metavar="T", help="The tenant that it belongs to.")
_event_option = click.option(
    "--event", "event_id", metavar="EVENT_ID", help="The id of its event: then it is found at once."
)
_id_argument = click.argument("delivery_id", type=parsing.delivery_id, metavar="ID")


class Conditions(TypedDict):
    """The options of `list` that choose deliveries, by the names of DeliveryFilter."""

    route_id: UUID | None
    status: ListStatus | None
    event_type: str | None
    event_id: str | None
    since: datetime | None
    until: datetime | None


def _event_type(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    if name is not None and (problem := name_problem(name)) is not None:
        raise click.BadParameter(problem)
    return name


@click.group()
def deliveries() -> None:
    """List deliveries, show one, and send one or a period again."""


@deliveries.command("list")
@_tenant_option
@click.option("--route", "route_id", type=parsing.route_id, metavar="R", help="Only to this route.")
@click.option(
    "--status",
    type=click.Choice([each.value for each in ListStatus]),
    callback=lambda _context, _option, value: None if value is None else ListStatus(value),
    help="Only with this status; retrying: pending, and a request has failed.",
)
@click.option("-e", "--event-type", metavar="TYPE", callback=_event_type, help="Only of events of this type.")
@click.option("--event", "event_id", metavar="EVENT_ID", help="Only of events with this id.")
@click.option("--from", "since", type=parsing.timestamp, metavar="TS", help="Of events that happened since.")
@click.option("--to", "until", type=parsing.timestamp, metavar="TS", help="Of events that happened before.")
@click.option(
    "--limit", type=click.IntRange(1, MOST_LISTED), default=50, show_default=True, metavar="N", help="At most so many."
)
@config_option
@output.json_option
def list_deliveries(
    tenant: str, limit: int, config_file: Path | None, as_json: bool, **conditions: Unpack[Conditions]
) -> None:
    """List a tenant's deliveries, newest event first."""
    wanted = DeliveryFilter(tenant=tenant, **conditions)
    found = with_store(settings(config_file), lambda database: _listed(database, wanted, limit))
    if as_json:
        output.document([shapes.of_item(each) for each in found])
        return
    columns = ("id", "event", "type", "happened", "webhook", "status", "attempts", "last answer", "next attempt")
    output.table(columns, [_row(each) for each in found], empty="there are no such deliveries")


@deliveries.command("show")
@_id_argument
@_tenant_option
@_event_option
@config_option
@output.json_option
def show(delivery_id: UUID, tenant: str, event_id: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show a delivery with each of its requests. With --json also what was sent and answered."""
    config = settings(config_file)

    async def work(database: Database) -> DeliveryDetail:
        index = await route_state.index(database, tenant=tenant)
        pair = await _pair(database, index, tenant, delivery_id, event_id)
        found = None
        if pair is not None:
            keychain = Keychain(database, await open_vault(config, database))
            found = await log_of_deliveries.detail(
                database, index, keychain, pair, request_options=request_options(config)
            )
        if found is None:
            raise _unknown(tenant, delivery_id)
        return found

    detail = with_store(config, work)
    if as_json:
        output.document(shapes.of_detail(detail))
        return
    item = detail.item
    output.fields(
        [
            ("id", item.id),
            ("event", item.found.event_id),
            ("type", item.found.event_type),
            ("happened", item.found.position.event_time),
            ("webhook", f"{item.route_name} ({item.found.position.route_id})"),
            ("status", item.status),
            ("because", None if detail.explanation is None else detail.explanation.detail),
            ("sent by hand", [f"{output.cell(each.at)} by {each.actor}" for each in detail.manual_retries]),
        ]
    )
    columns = ("attempt", "at", "ms", "outcome", "answer")
    rows = [
        (each.number, each.started_at, each.duration_ms, each.outcome, _answer(each.status_code, each.error))
        for each in detail.exchanges
    ]
    output.table(columns, rows, empty="no request was made")


@deliveries.command("retry")
@_id_argument
@_tenant_option
@_event_option
@reason_option
@config_option
@output.json_option
def retry(
    delivery_id: UUID,
    tenant: str,
    event_id: str | None,
    reason: str | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Send a delivery again now, with the same webhook-id, whatever became of it.

    Refused if the route is disabled, or has been disabled when the event happened or since.
    """
    config = settings(config_file)

    async def work(database: Database) -> RetryResult:
        index = await route_state.index(database, tenant=tenant)
        pair = await _pair(database, index, tenant, delivery_id, event_id)
        if pair is None:  # one that was skipped is refused with the reason
            pair = await skipped(database, index, tenant, str(delivery_id))
        timeline = None if pair is None else index.timeline(pair.route_id)
        if pair is None or timeline is None:
            raise _unknown(tenant, delivery_id)
        macs = (await checked_vault(config, database)).log_macs
        return await retry_now(database, timeline, pair, command_context(reason), macs=macs)

    state = with_store(config, work)
    if as_json:
        retried: RetriedShape = {"id": str(delivery_id), "state": state}
        output.document(retried)
        return
    output.note(_SAID[state])


deliveries.add_command(replays.replay)
deliveries.add_command(replays.list_replays)
deliveries.add_command(replays.cancel_replay)


async def _listed(database: Database, wanted: DeliveryFilter, limit: int) -> list[ListedDelivery]:
    index = await route_state.index(database, tenant=wanted.tenant)
    found: list[ListedDelivery] = []
    begin: ListPosition | None = None
    while len(found) < limit:
        page = await log_of_deliveries.page(database, index, wanted, begin=begin, limit=min(_PAGE, limit - len(found)))
        found += page.items
        begin = page.next
        if begin is None:
            break
    return found


async def _pair(
    database: Database, index: RouteIndex, tenant: str, delivery_id: UUID, event_id: str | None
) -> EventAndRoute | None:
    found = await log_of_deliveries.find(database, index, tenant, delivery_id, event_id=event_id)
    if found is not None or event_id is not None:
        return found
    try:
        return await log_of_deliveries.search(database, index, tenant, delivery_id)
    except SearchUnfinished as error:
        raise CliError(
            "so much waits that the delivery was not found in time", hint="name its event: --event ID"
        ) from error


def _row(each: ListedDelivery) -> tuple[object, ...]:
    found, summary = each.found, each.summary
    return (
        *(each.id, found.event_id, found.event_type, found.position.event_time, each.route_name),
        *(each.status, summary.requests, _answer(summary.last_status_code, summary.last_error), summary.due_at),
    )


def _answer(status_code: int | None, error: str | None) -> object:
    return error_code(error) if status_code is None and error is not None else status_code


def _unknown(tenant: str, delivery_id: UUID) -> CliError:
    return CliError(
        f"tenant {tenant} has no delivery {delivery_id}", hint=f"hookledger deliveries list --tenant {tenant}"
    )
