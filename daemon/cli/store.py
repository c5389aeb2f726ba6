"""How a command opens configuration and database: the shared options, one event loop, one open database."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import click

from daemon import route_state
from daemon.catalogue import Catalogue
from daemon.cli.console import failures, parsing
from daemon.cli.console.failures import CliError
from daemon.commands import CommandLimits, Commands, Context
from daemon.config import Config, load
from daemon.core import texts
from daemon.core.routing.route import Route, RouteStatus
from daemon.credentials.keys import Keychain, Vault, WrongMasterKey
from daemon.operations import audience_of
from daemon.store import existing_vault, open_store, open_vault
from eventstore import embedded
from eventstore.access.macs import CredentialMacs
from eventstore.postgres import schema
from eventstore.postgres.connect import Database

T = TypeVar("T")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="HOOKLEDGER_CONFIG",
    metavar="F",
    help="The TOML configuration file [variable: HOOKLEDGER_CONFIG].",
)

dev_option = click.option("--dev", is_flag=True, help="Allow loopback targets and http, as `run --dev` does.")

# The database does not know where a daemon listens.
daemon_listen_option = click.option(
    "--listen",
    type=parsing.listen_address,
    metavar="H:P",
    help="Where the daemon listens, if `run --listen` said so [server.listen].",
)

tenant_option = click.option("--tenant", metavar="T", help="Only this tenant.")


def _reason(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and (problem := texts.problem(text, has_lines=True)) is not None:
        raise click.BadParameter(problem)
    return text


reason_option = click.option("--reason", metavar="TEXT", callback=_reason, help="Why, for the history.")


def settings(
    config_file: Path | None,
    *,
    dev: bool = False,
    listen: str | None = None,
    for_daemon: bool = False,
    is_again: bool = False,
) -> Config:
    """The configuration of this process, which may be the daemon, and may have read it before. Raises ConfigError."""
    return load(config_file, os.environ, dev=dev, listen=listen, for_daemon=for_daemon, is_again=is_again)


def with_store(config: Config, work: Callable[[Database], Awaitable[T]], *, check: bool = True) -> T:
    """Opens the database, runs `work` on it and returns its result.

    With `check` it raises SchemaMismatch first unless the database has the schema of this version. Then no embedded
    database is made either: a command that lacks the daemon's configuration would make one that nobody uses.
    """
    if check and config.database.url is None and not embedded.has_cluster(config.database.data_dir):
        raise CliError(
            f"there is no database in {config.database.data_dir}, and database.url is not set",
            hint="give the command what the daemon has: --config, and variables like HOOKLEDGER_DATABASE__DATA_DIR; "
            "if none was started yet, start one: hookledger run",
            code=failures.EXIT_CONFIG,
        )

    async def main() -> T:
        cancel_on_sigterm()
        async with open_store(config) as database:
            if check:
                await schema.check(database)
            return await work(database)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def cancel_on_sigterm() -> None:
    """Lets SIGTERM cancel this task, so that it closes what it opened. A daemon installs its own handlers later."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def actor() -> str:
    """The actor for the route log: the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user id without a name
        return f"cli:{os.getuid()}"


async def open_commands(config: Config, database: Database) -> Commands:
    """The commands on routes of that database. Raises WrongMasterKey before anything is sealed with a wrong key.

    How many routes a tenant may have holds here too; how often they may be changed does not.
    """
    vault = await checked_vault(config, database)
    return Commands(
        database,
        Keychain(database, vault),
        config.egress_policy,
        signing_header=config.signing.header,
        now=now,
        catalogue=Catalogue(database, is_strict=config.events.strict_types),
        limits=CommandLimits(routes_per_tenant=config.limits.routes_per_tenant),
        audience=audience_of(config.operations),
    )


async def checked_vault(config: Config, database: Database) -> Vault:
    """The vault under the master key of this database. Raises WrongMasterKey, also if it is here and another one."""
    vault = await open_vault(config, database)
    await vault.check(database)
    return vault


async def known_macs(config: Config, database: Database) -> CredentialMacs | None:
    """What knows the tokens that are ours; None on a machine without the master key of this database."""
    try:
        vault = existing_vault(config)
        if vault is not None:
            await vault.require(database)
    except WrongMasterKey:
        return None
    return None if vault is None else vault.macs


def command_context(reason: str | None, *, if_version: int | None = None) -> Context:
    """The context of a command from the command line."""
    return Context(actor=actor(), origin="cli", reason=reason, if_version=if_version)


def now() -> datetime:
    """The present time in UTC, aware."""
    return datetime.now(UTC)


async def find_route(database: Database, route_id: UUID, tenant: str | None) -> Route:
    """The route as it is now. Raises CliError if there is none, it was deleted, or it is of another tenant."""
    return required_route(await route_state.route(database, route_id), route_id, tenant)


def required_route(route: Route | None, route_id: UUID, tenant: str | None, *, as_of: datetime | None = None) -> Route:
    """The same for a route that was looked up elsewhere, now or as it was at a moment."""
    if route is None or route.status is RouteStatus.DELETED or tenant not in {None, route.tenant}:
        raise unknown_route(route_id, as_of=as_of)
    return route


def unknown_route(route_id: UUID, *, as_of: datetime | None = None) -> CliError:
    """Says that there is no such route, or was none at that moment."""
    if as_of is None:
        return CliError(f"there is no route {route_id}", hint="hookledger routes list")
    then = f"there was no route {route_id} at {texts.moment(as_of)}"
    return CliError(then, hint=f"hookledger routes history {route_id}")
