"""Opens the database and the vault by the configuration, for the daemon and for each command.

`open_store` opens the pool that deliveries use in a daemon. Commands and queries have pools of their own there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import structlog

from daemon.config import Config
from daemon.config.sections import DatabaseSection
from daemon.core.sealing.head import SealKey
from daemon.credentials.keys import Vault, WrongMasterKey, master_key_file
from daemon.runtime.tasks import MORE_THREADS, is_lack_of_threads
from eventstore import embedded
from eventstore.access import adoption
from eventstore.access.adoption import Adopter
from eventstore.embedded import EmbeddedServer
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError
from eventstore.postgres.query_pool import FairShare, QueryPool
from eventstore.postgres.schema import Plan, StepConnection
from eventstore.retention.retention import Keep
from eventstore.route_log.sealed_secrets import stored_master_key_check

log = structlog.get_logger()

MASTER_KEY_FILE = "master.key"
# How often the daemon looks whether the embedded server is alive, and when it tries again after it could not start it.
LOOK_SECONDS = 1.0
RETRY_SECONDS = 10.0


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Database]:
    """An open database: the configured one, or the embedded PostgreSQL, which is started if it is not running.

    Does not check the schema. Raises StoreError.
    """
    async with AsyncExitStack() as stack:
        if config.database.url is None:
            server = await stack.enter_async_context(embedded_server(config.database.data_dir))
            url = server.url
        else:
            url = config.database.url.reveal()
        yield await stack.enter_async_context(opened(Database(url, pool_size=config.database.pool_size)))


async def migrate(config: Config, database: Database) -> Plan:
    """Brings the database to the schema of this version, and returns what was done.

    If it has secrets and comes from before tokens or outcomes had MACs, this needs the master key. Raises
    WrongMasterKey without it, before anything is changed, and StoreError.
    """
    planned = await schema.plan(database)
    adopter = None
    if 0 < planned.current < adoption.LOG_SINCE and await stored_master_key_check(database) is not None:
        vault = await open_vault(config, database)
        await vault.require(database)
        adopter = Adopter(macs=vault.macs, check_value_of=vault.check_value_of)

    async def adopting(connection: StepConnection) -> None:
        if left := await adoption.adopt(connection, adopter=adopter):
            log.warning("tokens.not_adopted", tokens=left, hint="no daemon has worked on this database: make them anew")

    async def beginning(connection: StepConnection) -> None:
        await adoption.begin_log_macs(connection, adopter=adopter)

    within = {adoption.CREDENTIALS_SINCE: adopting, adoption.LOG_SINCE: beginning}
    return await schema.migrate(database, within=within)


@asynccontextmanager
async def embedded_server(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    """The embedded PostgreSQL, for the block. If it ends meanwhile, as by the kernel's out-of-memory killer, it is
    started again: nobody else would. Raises StoreError if it cannot be started at first.
    """
    server = await _start(data_dir)
    keeping = asyncio.create_task(_keep_alive(server))
    try:
        yield server
    finally:
        keeping.cancel()
        await asyncio.to_thread(server.stop)


async def _keep_alive(server: EmbeddedServer) -> None:
    """Looks again and again, whatever it finds. That this process has no file left, or no thread, passes."""
    pause = LOOK_SECONDS
    while True:
        await asyncio.sleep(pause)
        pause = RETRY_SECONDS
        try:
            is_alive = server.is_alive
        except StoreError as error:
            log.warning("embedded.unwatched", cause=str(error), hint=error.hint)
            continue
        if is_alive:
            pause = LOOK_SECONDS
            continue
        log.error("embedded.ended", data_dir=str(server.data_dir))
        failure: Exception | None = None
        hint = ""
        try:
            await asyncio.to_thread(server.revive)
        except StoreError as error:
            failure, hint = error, error.hint
        except RuntimeError as error:
            if not is_lack_of_threads(error):
                raise
            failure, hint = error, MORE_THREADS
        if failure is None:
            log.warning("embedded.started_again", data_dir=str(server.data_dir))
            pause = LOOK_SECONDS
        else:
            log.error("embedded.not_started", cause=str(failure), hint=hint)


async def _start(data_dir: Path) -> EmbeddedServer:
    """Starts the embedded PostgreSQL in a thread. If it is cancelled meanwhile, it stops the server once that is up.

    Otherwise the thread would go on alone: it would leave a server that nobody stops, in a directory that may be gone.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(embedded.start, data_dir))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(StoreError):
            server = await starting
            await asyncio.to_thread(server.stop)
        raise


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Database]:
    """Connects a database for the block. Raises StoreError."""
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def pool_of_commands(url: str, section: DatabaseSection) -> Database:
    """For publishing, commands and the identification of callers."""
    return Database(url, pool_size=section.command_connections, application_name="hookledger commands")


def pool_of_sources(url: str, pool_size: int) -> Database:
    """For taking messages of sources into the log."""
    return Database(url, pool_size=pool_size, application_name="hookledger sources")


def pool_of_queries(url: str, section: DatabaseSection) -> Database:
    """For what is only read for the API and the dashboard."""
    return Database(
        url, pool_size=section.query_connections, application_name="hookledger queries", limits_statements=True
    )


def query_pool(database: Database, section: DatabaseSection, *, on_refused: Callable[[bool], None]) -> QueryPool:
    """That pool, shared by tenants: half of it for one at most, so that one alone cannot take it all."""
    places = section.query_connections
    return QueryPool(database, FairShare(places=places, of_one=places // 2, on_refused=on_refused))


async def open_vault(config: Config, database: Database) -> Vault:
    """The vault under the configured master keys, or under the key file in the data directory.

    The file is made if this database has no secrets yet: another key would open none of those that it has, and stand in
    the way of what needs no key, such as an audit. Raises WrongMasterKey or StoreUnavailable.
    """
    # Asked before looking for the file: another process makes the file first, and then this.
    is_used = await stored_master_key_check(database) is not None
    if is_used and not _has_key(config):
        raise WrongMasterKey(f"this database has secrets under a master key, and there is none in {_key_file(config)}")
    return await asyncio.to_thread(_vault_of, config)


def existing_vault(config: Config) -> Vault | None:
    """The same for what only reads; None on a machine that has no master key. Raises WrongMasterKey."""
    return _vault_of(config) if _has_key(config) else None


def seal_keys_of(config: Config) -> tuple[SealKey, ...]:
    """The keys that sign seals, as far as this machine has them."""
    vault = existing_vault(config)
    return () if vault is None else vault.seal_keys


def _has_key(config: Config) -> bool:
    try:
        return bool(config.signing.master_keys) or _key_file(config).exists()
    except PermissionError:  # reading it says so
        return True


def _vault_of(config: Config) -> Vault:
    return Vault(config.signing.master_keys or [master_key_file(_key_file(config))])


def _key_file(config: Config) -> Path:
    return config.database.data_dir / MASTER_KEY_FILE


def keep_of(config: Config) -> Keep:
    """For how long events and outcomes are kept."""
    own = config.retention
    return Keep(events=timedelta(days=own.events_days), attempts=timedelta(days=own.attempts_days))
