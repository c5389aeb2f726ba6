"""`hookledger routes`: the commands of `daemon.commands` at a terminal, and the queries about routes.

The id of a route is enough to name it; `--tenant` only guards against a mistyped id. The actor is the user of the
operating system, and `--reason` goes into the history. `options` reads the options that describe a route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TextIO, TypedDict, TypeVar, Unpack
from uuid import UUID

import click

from daemon import route_state
from daemon.cli.console import output, parsing
from daemon.cli.console.failures import EXIT_USAGE, CliError
from daemon.cli.routes import view
from daemon.cli.routes.options import (
    RouteValues,
    brought_key,
    changes_of,
    draft_of,
    key_options,
    named_as_options,
    route_values,
)
from daemon.cli.store import (
    command_context,
    config_option,
    dev_option,
    find_route,
    now,
    open_commands,
    reason_option,
    required_route,
    settings,
    tenant_option,
    unknown_route,
    with_store,
)
from daemon.commands import CommandResult, Commands, Context, Invalid
from daemon.core.drafts.login_link_draft import is_loopback
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.webhook.egress import EgressPolicy, UrlRefused, check_url
from daemon.deliveries import sample_events
from daemon.deliveries.sample_events import SentTest
from daemon.web.api.routes import route_shapes
from daemon.web.api.routes.sample_events import of_sent
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.route_log.log import RouteEvent

F = TypeVar("F", bound=Callable[..., object])

RouteCommand = Callable[[Commands, Route, Context], Awaitable[CommandResult]]

_id_argument = click.argument("route_id", type=parsing.route_id, metavar="ID")


_as_of_option = click.option("--as-of", type=parsing.timestamp, metavar="TS", help="As it was at that moment.")


class TargetOptions(TypedDict):
    """The options of every command that changes one route."""

    route_id: UUID
    tenant: str | None
    reason: str | None
    if_version: int | None
    config_file: Path | None
    as_json: bool


class EditOptions(TargetOptions, RouteValues):
    """The options of `edit`: the route, and the values that may change."""


def _on_one_route(command: F) -> F:
    version = click.option("--if-version", type=int, metavar="N", help="Only if the route is at this version.")
    for option in (output.json_option, config_option, version, reason_option, tenant_option, _id_argument):
        command = option(command)
    return command


@click.group()
def routes() -> None:
    """List, create and change routes."""


@routes.command("list")
@tenant_option
@click.option(
    "--status", type=click.Choice([RouteStatus.ENABLED.value, RouteStatus.DISABLED.value]), help="Only these."
)
@_as_of_option
@config_option
@output.json_option
def list_routes(
    tenant: str | None, status: str | None, as_of: datetime | None, config_file: Path | None, as_json: bool
) -> None:
    """List routes.

    Deleted ones are left out; --as-of shows the past.
    """

    async def work(database: Database) -> list[Route]:
        index = await route_state.index(database, as_of=as_of)
        return [
            r for r in index.routes(tenant) if r.status is not RouteStatus.DELETED and status in {None, r.status.value}
        ]

    listed = with_store(settings(config_file), work)
    if as_json:
        output.document([route_shapes.of_route(each, now=as_of or now()) for each in listed])
        return
    view.print_table(listed)


@routes.command("show")
@_id_argument
@tenant_option
@_as_of_option
@config_option
@output.json_option
def show(route_id: UUID, tenant: str | None, as_of: datetime | None, config_file: Path | None, as_json: bool) -> None:
    """Show a route, but not its key."""

    async def work(database: Database) -> Route:
        if as_of is None:
            return await find_route(database, route_id, tenant)
        then = (await route_state.index(database, as_of=as_of)).route(route_id)
        return required_route(then, route_id, tenant, as_of=as_of)

    view.print_one(with_store(settings(config_file), work), as_json=as_json, at=as_of)


@routes.command("create")
@click.option("--tenant", required=True, metavar="T", help="The tenant that it belongs to.")
@route_values
@click.option("--disabled", is_flag=True, help="Create it disabled.")
@key_options
@reason_option
@dev_option
@config_option
@output.json_option
def create(
    tenant: str,
    disabled: bool,
    verification_key: str | None,
    verification_key_file: TextIO | None,
    reason: str | None,
    dev: bool,
    config_file: Path | None,
    as_json: bool,
    **values: Unpack[RouteValues],
) -> None:
    """Create a route.

    Prints its verification key, this once. --name, --target-url and at least one --event-type are needed.
    """
    brought = brought_key(verification_key, verification_key_file)
    draft = replace(draft_of(values, enabled=not disabled), verification_key=brought)
    config = settings(config_file, dev=dev)

    async def work(database: Database) -> tuple[Route, str]:
        commands = await open_commands(config, database)
        with named_as_options(), _naming_dev(values["target_url"], dev=dev):
            result = await commands.create(tenant, draft, command_context(reason))
        return result.route, await commands.reveal_key(result.route)

    route, key = with_store(config, work)
    view.print_one(route, as_json=as_json, key=key)


@routes.command("edit")
@_on_one_route
@route_values
@click.option("--no-headers", is_flag=True, help="Drop all headers of your own.")
@dev_option
def edit(dev: bool, no_headers: bool, **options: Unpack[EditOptions]) -> None:
    """Change a route.

    Values without an option stay as they are. Lists are replaced as a whole, and the word none clears.
    """

    async def change(commands: Commands, route: Route, context: Context) -> CommandResult:
        changes = changes_of(options, route, no_headers=no_headers)
        with _naming_dev(options["target_url"], dev=dev):
            return await commands.edit(route.tenant, route.id, changes, context)

    changed = [name for name in RouteValues.__annotations__ if options.get(name) not in {None, ()}]
    if not changed and not no_headers:
        raise click.UsageError("nothing to change: name it with options")
    _execute(change, options, dev=dev, at_read_version=True)


@routes.command("disable")
@_on_one_route
def disable(**target: Unpack[TargetOptions]) -> None:
    """Disable a route.

    Events that happen from now on are not sent to it, and waiting deliveries are not either.
    """
    _execute(lambda commands, route, context: commands.disable(route.tenant, route.id, context), target)


@routes.command("enable")
@_on_one_route
def enable(**target: Unpack[TargetOptions]) -> None:
    """Enable a route.

    Events that happen from now on are sent to it. Events that it missed are not.
    """
    _execute(lambda commands, route, context: commands.enable(route.tenant, route.id, context), target)


@routes.command("delete")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_on_one_route
def delete(yes: bool, **target: Unpack[TargetOptions]) -> None:
    """Delete a route for good."""
    if not yes:
        config = settings(target["config_file"])
        route = with_store(config, lambda database: find_route(database, target["route_id"], target["tenant"]))
        _confirm_deletion(route)
    _execute(lambda commands, route, context: commands.delete(route.tenant, route.id, context), target)


@routes.command("rotate-key")
@click.option("--force", is_flag=True, help="Even while webhooks are still signed with the previous key, too.")
@key_options
@_on_one_route
def rotate_key(
    force: bool,
    verification_key: str | None,
    verification_key_file: TextIO | None,
    **target: Unpack[TargetOptions],
) -> None:
    """Make a new verification key, or take one along.

    Prints it, this once. For 24 hours webhooks are signed with the present key as well.
    """
    brought = brought_key(verification_key, verification_key_file)

    def change(commands: Commands, route: Route, context: Context) -> Awaitable[CommandResult]:
        return commands.rotate_key(route.tenant, route.id, context, force=force, verification_key=brought)

    _execute(change, target, reveal=True)


@routes.command("revoke-old-key")
@_on_one_route
def revoke_old_key(**target: Unpack[TargetOptions]) -> None:
    """Sign with the newest verification key alone from now on, before the 24 hours of the previous one are over."""
    _execute(lambda commands, route, context: commands.revoke_old_key(route.tenant, route.id, context), target)


@routes.command("test")
@_id_argument
@click.option(
    "-e", "--event-type", "event_types", multiple=True, metavar="TYPE", help="Only an example of this; may be repeated."
)
@tenant_option
@config_option
@output.json_option
def test(
    route_id: UUID, event_types: tuple[str, ...], tenant: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Send examples of the catalogue to a route alone, one of each type that it subscribes to.

    Their webhooks have the header Hookledger-Test: true. A daemon that runs sends them like all others.
    """

    async def work(database: Database) -> list[SentTest]:
        route = await find_route(database, route_id, tenant)
        with named_as_options():
            return await sample_events.send(database, route, list(event_types) or None)

    sent = with_store(settings(config_file), work)
    if as_json:
        output.document([of_sent(each) for each in sent])
        return
    output.table(("delivery", "event", "type"), [(each.id, each.event_id, each.event_type) for each in sent], empty="")


@routes.command("history")
@_id_argument
@tenant_option
@config_option
@output.json_option
def history(route_id: UUID, tenant: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show what happened to a route, newest first. Deleted routes have a history, too."""

    async def work(database: Database) -> list[RouteEvent]:
        return await route_log.history(database, route_id)

    events = with_store(settings(config_file), work)
    if not events or tenant not in {None, events[0].tenant}:
        raise unknown_route(route_id)
    history_rows = route_shapes.of_history(events[::-1], configured=None)
    if as_json:
        output.document(history_rows)
        return
    view.print_history(history_rows)


def _execute(
    change: RouteCommand,
    target: TargetOptions,
    *,
    dev: bool = False,
    reveal: bool = False,
    at_read_version: bool = False,
) -> None:
    """Executes one command on one route, and prints the route.

    With `reveal` it prints the newest key, too. With `at_read_version` the command is refused if the route was changed
    since it was read here, as if --if-version had been given.
    """
    config = settings(target["config_file"], dev=dev)

    async def work(database: Database) -> tuple[CommandResult, str | None]:
        route = await find_route(database, target["route_id"], target["tenant"])
        commands = await open_commands(config, database)
        version = route.version if at_read_version and target["if_version"] is None else target["if_version"]
        with named_as_options():
            result = await change(commands, route, command_context(target["reason"], if_version=version))
        return result, await commands.reveal_key(result.route) if reveal else None

    result, key = with_store(config, work)
    if not result.appended:
        output.note("nothing to do: the route is so already")
    view.print_one(result.route, as_json=target["as_json"], key=key)


@contextmanager
def _naming_dev(target_url: str | None, *, dev: bool) -> Iterator[None]:
    """A target on this machine is refused with that hint, if nothing else is wrong."""
    try:
        yield
    except Invalid as error:
        is_about_target = [problem.field for problem in error.problems] == ["target_url"]
        if dev or target_url is None or not is_about_target or not _is_on_this_machine(target_url):
            raise
        hint = "--dev, for a receiver on this machine: the daemon needs it too then"
        problem = f"--target-url: {error.problems[0].message}"
        raise CliError(problem, hint=hint, code=EXIT_USAGE) from error


def _is_on_this_machine(target_url: str) -> bool:
    try:
        return is_loopback(check_url(target_url, EgressPolicy.dev()).host)
    except UrlRefused:
        return False


def _confirm_deletion(route: Route) -> None:
    name, tenant = output.plain(route.config.name), output.plain(route.tenant)
    click.echo(
        f"Deleting {name} of {tenant} is final: nothing is sent to it any more, its id is never used again.", err=True
    )
    if output.ask("Type DELETE to delete it") != "DELETE":
        raise CliError("nothing was deleted", hint="type DELETE in capitals, or pass --yes")
