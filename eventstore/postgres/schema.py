"""The schema and its day partitions: creates a fresh schema from schema.sql, or migrates an older one step by step.

Everything happens under one lock, so that daemons which start together do not race: the table `meta`, or, before there
is one, the name of the schema. A schema that is newer than this program is refused. Partitions are created ahead of
need, by whichever daemon looks first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import AccessRefused, SchemaMismatch, StoreUnavailable, UnsafeServer

# The version that schema.sql describes. A change of schema.sql adds migrations/<version>_<what>.sql and raises this.
VERSION = 9
# The eventstore package. It contains the migrations, and in an installed wheel also schema.sql.
_PACKAGE = Path(__file__).parents[1]

PARTITION_DAYS_AHEAD = 7

# hookledger.ensure_partitions takes it too. See the head of schema.sql for the mode.
LOCK_SCHEMA = "LOCK TABLE hookledger.meta IN SHARE UPDATE EXCLUSIVE MODE"
_LOCK_SECONDS = 120.0
_STEP_LOCK_SECONDS = 4
# A daemon that was killed counts as running for the TTL of a lease, 10 s.
_PATIENCE_SECONDS = 15.0

# Seen within the TTL of a lease, or with leases that are valid.
_RUNNING = """
SELECT owner FROM hookledger.process WHERE seen_at > clock_timestamp() - interval '10 seconds'
 UNION SELECT owner FROM hookledger.lease WHERE expires_at > clock_timestamp() AND owner IS NOT NULL ORDER BY owner
"""

StepConnection: TypeAlias = asyncpg.pool.PoolConnectionProxy
# What a step does besides its SQL.
Within = Callable[[StepConnection], Awaitable[None]]

_NO_VERSION = "the schema hookledger does not say of which version it is: it is being restored, or its restore failed"
_RESTORE = "wait for the restore to end; if it has failed, drop the database and restore it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `migrate` would do: go from version `current`, 0 if there is no schema, to version `target`."""

    current: int
    target: int = VERSION

    @property
    def steps(self) -> tuple[str, ...]:
        """The files to run, in order; empty if the schema has this version already."""
        if self.current == 0:
            return ("schema.sql",)
        return tuple(path.name for number, path in sorted(_migrations().items()) if number > self.current)


async def plan(database: Database) -> Plan:
    """The version of the database and the steps to this one. Raises SchemaMismatch if the schema is newer than this
    program, or was not made by it.
    """
    async with database.connection() as connection:
        return Plan(current=await _current(connection))


async def migrate(database: Database, *, within: Mapping[int, Within] | None = None) -> Plan:
    """Does what `plan` says, creates the partitions of the coming days, and returns the plan that was carried out.

    Each step is a transaction that writes its version, so that a migration which was interrupted goes on where it was.
    `within` has what a step to a version does in it besides its SQL. Raises SchemaMismatch while daemons of the older
    version are running.
    """
    planned = await plan(database)
    if planned.current == 0:
        try:
            await _install(database)
        except _JustInstalled:
            return await migrate(database, within=within)
        return planned
    for version in sorted(_migrations()):
        if version > planned.current:
            await _patiently(partial(_step, database, version, (within or {}).get(version)))
    async with database.transaction(seconds=_LOCK_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await create_partitions(connection)
    if (detached := await detached_partition(database)) is not None:
        raise SchemaMismatch(detached.cause, hint=detached.hint)
    return planned


class _JustInstalled(StoreUnavailable):
    """Another process has created the schema since we looked. Its name is unique, so we waited for its commit."""


class _InTheWay(StoreUnavailable):
    """Somebody holds a table that a step changes, or works with the older version. That may end in a moment."""


async def _install(database: Database) -> None:
    async with database.transaction(seconds=_LOCK_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await _require_utf8(connection)
        try:
            await connection.execute(_text("schema.sql"))
        except (asyncpg.DuplicateSchemaError, asyncpg.UniqueViolationError) as error:
            raise _JustInstalled("another process has just created the schema") from error
        await _set_version(connection, VERSION)
        await connection.execute(
            "INSERT INTO hookledger.meta (key, value) "
            "SELECT 'system_identifier', system_identifier::text FROM pg_control_system()"
        )
        await create_partitions(connection)


async def _step(database: Database, version: int, within: Within | None) -> None:
    """Takes the step that reaches a version, unless another process has taken it. Raises _InTheWay."""
    async with database.transaction(seconds=_LOCK_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await connection.execute(LOCK_SCHEMA)
        if await _current(connection) >= version:
            return
        if running := [row["owner"] for row in await connection.fetch(_RUNNING)]:
            raise _InTheWay(
                f"daemons of the older version are running: {', '.join(running)}",
                hint="stop every daemon, then start the new ones",
            )
        # Not for ever: writers of events wait behind a step that waits for a table.
        await connection.execute(f"SET LOCAL lock_timeout = '{_STEP_LOCK_SECONDS}s'")
        try:
            await connection.execute(_text(_migrations()[version].name))
        except asyncpg.LockNotAvailableError as error:
            raise _InTheWay(
                "a transaction holds a table that the migration changes",
                hint="look for old transactions in pg_stat_activity, and repeat it",
            ) from error
        if within is not None:
            await within(connection)
        await _set_version(connection, version)


async def _patiently(step: Callable[[], Awaitable[None]]) -> None:
    """Tries again while somebody is in the way, for as long as a daemon that was killed counts as running, and more."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await step()
        except _InTheWay as error:
            if time.monotonic() > deadline:
                raise SchemaMismatch(str(error), hint=error.hint) from error
        await asyncio.sleep(0.5)


async def _set_version(connection: asyncpg.pool.PoolConnectionProxy, version: int) -> None:
    await connection.execute(
        "INSERT INTO hookledger.meta (key, value) VALUES ('schema_version', $1) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        str(version),
    )


async def check(database: Database) -> None:
    """Raises SchemaMismatch unless the schema has this version and the ticks belong to this cluster."""
    async with database.connection() as connection:
        current = await _current(connection)
        if current != VERSION:
            raise SchemaMismatch(
                "the database has no Hookledger schema"
                if current == 0
                else f"the schema is version {current}, not {VERSION}",
                hint="run hookledger migrate",
            )
    await check_cluster(database)


async def require_owner(database: Database) -> None:
    """Raises AccessRefused if this role may not make and drop partitions: a week would pass before anybody notices."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_OWNERS)
    if row is not None:
        raise AccessRefused(
            f"the role {row['me']} does not own the table hookledger.{row['name']}: it may neither make the partitions "
            "of the coming days nor drop old ones",
            hint=f"use the role {row['owner']}, or make this one a member of it",
        )


_OWNERS = """
SELECT current_user::text AS me, relname::text AS name, relowner::regrole::text AS owner
  FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind = 'p' AND NOT pg_has_role(relowner, 'USAGE')
 ORDER BY relname LIMIT 1
"""


async def check_cluster(database: Database) -> None:
    """Raises SchemaMismatch if the database was moved to another cluster than the one its ticks belong to."""
    async with database.connection() as connection:
        old, new = await identifiers(connection)
    if old != new:
        raise SchemaMismatch(
            "this database came here from another PostgreSQL cluster, by a dump or an upgrade: "
            "its ticks mean nothing here",
            hint="make sure that nothing works on the old one, then run hookledger migrate --accept-restore",
        )


async def identifiers(connection: asyncpg.pool.PoolConnectionProxy) -> tuple[str, str]:
    """The system identifiers of the cluster to which the ticks belong, and of the cluster in which the database is."""
    (row,) = await connection.fetch(
        "SELECT (SELECT value FROM hookledger.meta WHERE key = 'system_identifier') AS old, "
        "(SELECT system_identifier::text FROM pg_control_system()) AS new"
    )
    if row["old"] is None:
        raise SchemaMismatch(_NO_VERSION, hint=_RESTORE)
    return str(row["old"]), str(row["new"])


async def create_partitions(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    """Creates the day partitions from yesterday to a week ahead, by the database's clock. If the clock went back by
    more, events are recorded at the later time of the logs, so that day and the next get their partitions too.

    Returns how many were missing.
    """
    (days,) = await connection.fetch(
        "SELECT (now() AT TIME ZONE 'UTC')::date AS today, (hookledger.log_time() AT TIME ZONE 'UTC')::date AS of_log"
    )
    first, last = days["today"] - timedelta(days=1), days["today"] + timedelta(days=PARTITION_DAYS_AHEAD)
    made = int(await connection.fetchval(_ENSURE, first, last))
    if days["of_log"] > last:
        made += int(await connection.fetchval(_ENSURE, days["of_log"], days["of_log"] + timedelta(days=1)))
    return made


_ENSURE = "SELECT hookledger.ensure_partitions($1, $2)"

# The first table of those days that is no partition, or is about to be none.
_DETACHED = f"""
SELECT p.name AS parent, c.relname::text AS name, d.day::date AS day, coalesce(i.inhdetachpending, false) AS is_pending
  FROM unnest('{{domain_event,attempt}}'::text[]) AS p (name)
 CROSS JOIN (SELECT generate_series(now() - interval '1 day', now() + interval '{PARTITION_DAYS_AHEAD} days', '1 day')
                    AT TIME ZONE 'UTC'
              UNION SELECT hookledger.log_time() AT TIME ZONE 'UTC') AS d (day)
  JOIN pg_class c ON c.relnamespace = 'hookledger'::regnamespace
                 AND c.relname = p.name || '_' || to_char(d.day, 'YYYYMMDD')
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
 WHERE i.inhrelid IS NULL OR i.inhdetachpending
 ORDER BY d.day, p.name DESC LIMIT 1
"""


class DetachedPartition(NamedTuple):
    """A table of one of these days that somebody has detached, in a sentence, and what to do."""

    cause: str
    hint: str


async def detached_partition(database: Database) -> DetachedPartition | None:
    """What stands in the way of a day's partition, None if nothing does. Events that are in it and were not read yet
    are passed over for as long as it is detached.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(_DETACHED)
    for row in rows:
        parent, name, day = f"hookledger.{row['parent']}", f"hookledger.{row['name']}", row["day"]
        finish = f"ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE; " if row["is_pending"] else ""
        return DetachedPartition(
            f"the table {name} is no partition any more: nobody reads what it has, nothing is stored on its day",
            f"run {finish}ALTER TABLE {parent} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')",
        )
    return None


async def _require_utf8(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """The hash chain counts bytes of UTF-8, and events may contain any character."""
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise UnsafeServer(
            f"the database has the encoding {encoding}, and Hookledger needs UTF8",
            hint="create it with createdb --template=template0 --encoding=UTF8",
        )


async def _current(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    """The version of the schema, 0 if there is none."""
    if await connection.fetchval("SELECT to_regclass('hookledger.meta')") is None:
        if await connection.fetchval("SELECT to_regnamespace('hookledger')") is not None:
            raise SchemaMismatch(
                "there is a schema named hookledger that Hookledger did not make",
                hint="use a database of its own, or rename that schema",
            )
        return 0
    written = await connection.fetchval("SELECT value FROM hookledger.meta WHERE key = 'schema_version'")
    if written is None or not written.isdecimal():
        raise SchemaMismatch(_NO_VERSION, hint=_RESTORE)
    version = int(written)
    if version > VERSION:
        raise SchemaMismatch(
            f"the database has schema version {version}, this program knows {VERSION} at most",
            hint="install a newer Hookledger; a database is never taken back to an older schema",
        )
    return version


def _migrations() -> dict[int, Path]:
    """Version that a migration reaches → its file."""
    folder = _PACKAGE / "migrations"
    return {int(path.name.split("_")[0]): path for path in folder.glob("[0-9]*.sql")}


def _text(step: str) -> str:
    """The SQL of a step. schema.sql is beside this package in a source tree, and inside it in an installed wheel."""
    if step != "schema.sql":
        return (_PACKAGE / "migrations" / step).read_text()
    inside = _PACKAGE / "schema.sql"
    return (inside if inside.exists() else _PACKAGE.parent / "schema.sql").read_text()


_DELETE_MIDNIGHT_IDS = (
    "DELETE FROM hookledger.domain_event_midnight WHERE recorded_at < clock_timestamp() - interval '1 hour'"
)


async def maintain_partitions(database: Database) -> int:
    """Creates missing partitions and deletes the ids of last midnight. Returns how many partitions were created."""
    async with database.transaction(seconds=30) as connection:
        made = await create_partitions(connection)
        await connection.execute(_DELETE_MIDNIGHT_IDS)
    return made
