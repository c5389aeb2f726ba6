"""Connections to PostgreSQL: one pool, a deadline on every use of it, and the translation of the driver's errors.

The one thing to know: a frozen server answers nothing, not even a rollback or a cancel request. So when a deadline
passes, the connection is closed without a word to the server, and nothing here waits for a server outside
`asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from eventstore.postgres.errors import (
    AccessRefused,
    Deadlocked,
    FormerPrimary,
    Locked,
    SchemaMismatch,
    Standby,
    StoreError,
    StoreUnavailable,
    UnsafeServer,
    ValueRefused,
)
from eventstore.postgres.servers.abandoned import Abandoned
from eventstore.postgres.servers.database_url import location
from eventstore.postgres.servers.dialing import Dialer, require_direct, require_primary

# A producer gets an answer within 3 s, a 503 if PostgreSQL is frozen. So every ordinary statement has this deadline.
DEADLINE_SECONDS = 3.0

# The deadline of lists is somewhat longer than that. To set one limit for both saves lists two round trips.
LIMIT_SECONDS = 5.0

# Timeouts: the server itself ends a statement or an idle transaction, so that a lost client holds no lock for ever. A
# process that is frozen between an append and its COMMIT holds up the ticks of all: hence 5 s, which no transaction
# of ours is idle for. A session may be idle for as long as it likes, above all the one that listens: its end tells
# the others that its process is dead. A wait for a lock ends before our own deadlines, that of a publish too, so that
# the error can say what it waited for. Isolation: ticks and fenced writes must see what was committed while they
# waited for a lock, whatever the default of a role or a database is. No sequential scans: every midnight begins a
# partition without statistics, and the planner then read all of it to find a cut of one row. No parallel scans:
# starting the workers takes ten times as long as reading a cut. Generic plans: planning over 38 partitions took 1 to
# 9 ms for each cut, executing it 0.1 ms. So an optional filter must be absent from the statement's text: "$1 IS NULL
# OR tenant = $1" uses no index.
# The last seven: ALTER DATABASE and ALTER ROLE set defaults too, by which another function could stand in for sha256 in
# an audit, a policy hide rows from the reader, or a text mean something else: without strings as the standard has
# them, a backslash in a literal of a statement, or of a function that it calls. So names are those of PostgreSQL, and a
# statement to which a policy applies fails. With quotes around every name, each function that is made would be another
# one for an audit, and each trigger for ever.
SERVER_SETTINGS = {
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "0",
    "lock_timeout": "2s",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "search_path": "pg_catalog, pg_temp",
    "row_security": "off",
    "transform_null_equals": "off",
    "constraint_exclusion": "partition",
    "datestyle": "ISO, MDY",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
}

# For a statement that locks or changes rows which others change, and reads partitions that it chooses while it runs. If
# such a row has changed meanwhile, the server looks at it again with a copy of the plan. In PostgreSQL 18, up to 18.4
# at least, the copy sets up the choice of partitions anew, in the place of the statement's own, and the statement goes
# on with memory that was freed: the server crashed while routes were disabled under load. So two statements of one
# transaction do it, or this comes before. It costs a look into each partition.
UNPRUNED = "SET LOCAL enable_partition_pruning = off"

OLDEST_SERVER = 150000

# Somewhat less than a use of a connection has, which may begin with it.
DIAL_SECONDS = 2.5

# What a server answers that was demoted, or that stops: 25006 and 57P01 to 57P03. Or another one was promoted.
_OF_THIS_SERVER = (
    Standby,
    FormerPrimary,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)

# A connection that was not needed for so long is closed: each costs its server up to 10 MiB, and a new one 5 ms.
IDLE_CONNECTION_SECONDS = 30.0

# How long a use waits for another one while the database rests: much longer than most take, and nothing to a lease.
TURN_SECONDS = 0.1

DRIVER_ERRORS = (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Database:
    """A pool of connections. Use `connection` for single statements, `transaction` where several belong together.

    If it `limits_statements`, the server ends each statement when the deadline of the connection's use has passed, or
    LIMIT_SECONDS. This costs two round trips for a use with a longer deadline.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        application_name: str = "hookledger",
        limits_statements: bool = False,
    ) -> None:
        self.url = url
        self._pool_size = pool_size
        self._limits_statements = limits_statements
        self._settings = SERVER_SETTINGS | {"application_name": application_name}
        if limits_statements:
            self._settings["statement_timeout"] = milliseconds(LIMIT_SECONDS)
        self._pool: asyncpg.Pool | None = None
        self._dialer: Dialer | None = None
        self._abandoned = Abandoned(pool_size, where=location(url))
        self._is_resting = False
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connects. Raises StoreUnavailable, AccessRefused or MalformedUrl; UnsafeServer for a pooler, and for a server
        older than 15.
        """
        pool = self._new_pool()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS * 2):
                self._pool = await pool
        except DRIVER_ERRORS as error:
            pool.terminate()
            raise translated(error, self.url) from error
        except BaseException:
            pool.terminate()
            raise
        try:
            await self._check_server()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes the pool, gracefully for a second, then at once."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(1):
                await self._pool.close()
        except (TimeoutError, OSError, asyncpg.InterfaceError):
            self._pool.terminate()
        self._pool = None

    async def rest(self) -> None:
        """For quiet times: every connection is replaced before its next use, and until `wake` uses take turns, so that
        one connection is enough. Who has waited for TURN_SECONDS goes on.
        """
        self._is_resting = True
        if self._pool is not None:
            await self._pool.expire_connections()

    async def look_for_promoted(self) -> None:
        """Looks whether another server takes writes that was promoted later. Then no connection of this process is used
        that leads to the former one: the next use of each pool fails, and those after it find the new one.
        """
        if self._dialer is not None:
            await self._dialer.look()

    def wake(self) -> None:
        """Uses do not wait for each other any more. On the hot path."""
        self._is_resting = False

    async def _take_turn(self) -> bool:
        """True if it is to be given back; False after a wait that was long enough."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS):
                return await self._turn.acquire()
        return False

    @asynccontextmanager
    async def connection(self, *, seconds: float = DEADLINE_SECONDS) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A connection for at most `seconds`, waiting for it included."""
        if (pool := self._pool) is None:
            raise StoreUnavailable("the connection pool is closed")
        has_turn, task = False, asyncio.current_task()
        cancelled_before = 0 if task is None else task.cancelling()
        try:
            async with asyncio.timeout(seconds):
                has_turn = self._is_resting and await self._take_turn()
                connection = await pool.acquire()
                try:
                    require_primary(connection, self.url)
                    async with self._limited(connection, seconds):
                        yield connection
                except (asyncio.CancelledError, TimeoutError):
                    with suppress(asyncpg.InterfaceError):  # if it was lost in the same moment
                        self._abandoned.add(connection.get_server_pid())
                    _terminate(connection)
                    raise
                except _OF_THIS_SERVER:
                    # Demoted or about to stop: the name may lead elsewhere by now, and so none of them is used again.
                    _terminate(connection)
                    await pool.expire_connections()
                    raise
                except asyncpg.InterfaceError as error:
                    if connection.is_closed():
                        raise
                    raise StoreError(f"the driver refuses a statement: {error}") from error
                finally:
                    await pool.release(connection)
        except DRIVER_ERRORS as error:
            if task is not None and task.cancelling() > cancelled_before:
                # A rollback that failed, or a connection that was lost, has taken the place of the cancel.
                raise asyncio.CancelledError from error
            raise translated(error, self.url) from error
        finally:
            if has_turn:
                self._turn.release()

    @asynccontextmanager
    async def transaction(
        self, *, seconds: float = DEADLINE_SECONDS
    ) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A READ COMMITTED transaction for at most `seconds`; committed if the block ends, rolled back if it raises."""
        async with self.connection(seconds=seconds) as connection:
            await connection.execute("BEGIN")
            try:
                yield connection
            except Exception:
                with suppress(*DRIVER_ERRORS):  # the first error tells the cause, a second one only its effect
                    await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")

    @asynccontextmanager
    async def _limited(self, connection: asyncpg.pool.PoolConnectionProxy, seconds: float) -> AsyncIterator[None]:
        """Has the server end what runs for longer, if this pool limits statements and that is not its default."""
        if not self._limits_statements or seconds <= LIMIT_SECONDS:
            yield
            return
        await connection.execute(f"SET statement_timeout = '{milliseconds(seconds)}'")
        try:
            yield
        except Exception:
            with suppress(*DRIVER_ERRORS):  # as in `transaction`
                await connection.execute("RESET statement_timeout")
            raise
        await connection.execute("RESET statement_timeout")

    def _new_pool(self) -> asyncpg.Pool:
        self._dialer = dial = Dialer(self.url, where=location(self.url), settings=self._settings, seconds=DIAL_SECONDS)

        async def connected(*_arguments: object, **_options: object) -> asyncpg.Connection:
            self._abandoned.require_patience()
            connection = await dial()
            try:
                await self._abandoned.admit(connection)
            except BaseException:
                connection.terminate()
                raise
            return connection

        return asyncpg.create_pool(
            connect=connected,
            min_size=0,  # none is restored while PostgreSQL is away, until it is needed
            max_size=self._pool_size,
            max_inactive_connection_lifetime=IDLE_CONNECTION_SECONDS,
            reset=_no_reset,
        )

    async def _check_server(self) -> None:
        async with self.connection() as connection:
            await require_direct(connection)
            number = int(await connection.fetchval("SHOW server_version_num"))
        if number < OLDEST_SERVER:
            message = f"PostgreSQL {number // 10000} is too old: Hookledger needs 15 or newer"
            raise UnsafeServer(message, hint="upgrade the server, or run without database.url for the embedded one")


async def check_durability(database: Database) -> None:
    """Raises UnsafeServer if a crash of this server would lose acknowledged writes.

    Measured: with synchronous_commit off, five crashes lost 116 of 71,000 acknowledged events.
    """
    async with database.connection() as connection:
        (found,) = await connection.fetch(_DURABILITY)
    for setting, value in found.items():
        if value == "off":
            raise UnsafeServer(
                f"PostgreSQL runs with {setting}=off: a crash would lose acknowledged events",
                hint=f"set {setting}=on, or use --dev if nothing may depend on this database",
            )


_DURABILITY = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit
"""


def translated(error: Exception, url: str) -> Exception:  # noqa: C901, PLR0911, PLR0912 - a table, read from top to bottom
    """The StoreError that corresponds to a driver's `error`; `error` itself if it is not the driver's.

    Messages quote only the first line of the driver's message: its detail may quote a row, and so a payload.
    """
    where = location(url)
    match error:
        case StoreError():
            return error
        case asyncpg.InvalidAuthorizationSpecificationError() if "pg_hba.conf" in str(error.args[0]):
            return AccessRefused(
                f"PostgreSQL at {where} has no line in its pg_hba.conf that lets this user in from here",
                hint="add one there; if there is one that begins with hostssl, put sslmode=require into database.url",
            )
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return AccessRefused(
                f"PostgreSQL at {where} refuses this user or password",
                hint="check user and password in database.url (HOOKLEDGER_DATABASE__URL)",
            )
        case asyncpg.InvalidCatalogNameError():
            return AccessRefused(
                f"there is no such database at {where}", hint="create it with createdb, or correct database.url"
            )
        case asyncpg.InsufficientPrivilegeError():
            return AccessRefused(
                f"PostgreSQL at {where} refuses: {error.args[0]}",
                hint=error.hint or _right_to(error),
            )
        case asyncpg.TooManyConnectionsError():
            return StoreUnavailable(
                f"PostgreSQL at {where} has no connection left",
                hint="raise max_connections or lower database.pool_size",
            )
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedFunctionError() | asyncpg.InvalidSchemaNameError():
            return SchemaMismatch(f"the schema is not complete: {error.args[0]}", hint="run hookledger migrate")
        case asyncpg.CheckViolationError() if error.constraint_name is None and _is_parent(error):
            # A missing partition is reported as a check violation without a constraint name.
            return StoreUnavailable(
                "there is no partition for today",
                hint="start the daemon or run hookledger migrate: either creates it, or says what is in the way",
            )
        case asyncpg.CheckViolationError() if error.constraint_name is None:
            return StoreUnavailable(
                f"PostgreSQL at {where} cannot make or fill a partition: {_said(error)}",
                hint="move the rows of the default partition out of it, and drop it",
            )
        case asyncpg.DataError() if isinstance(error.__cause__, UnicodeEncodeError):
            return ValueRefused("a text is not UTF-8", hint="see which one, and write it in UTF-8")
        case asyncpg.CheckViolationError() | asyncpg.NotNullViolationError() | asyncpg.DataError():
            return ValueRefused(str(error.args[0]))
        case asyncpg.DeadlockDetectedError():
            return Deadlocked(f"PostgreSQL at {where} ended a transaction that another one waited for")
        case asyncpg.ReadOnlySQLTransactionError():
            return StoreUnavailable(
                f"PostgreSQL at {where} is read-only: default_transaction_read_only is on, or it was demoted",
                hint="set default_transaction_read_only = off where it is on (ALTER SYSTEM, ALTER DATABASE or ALTER "
                "ROLE), or let database.url lead to the primary",
            )
        case asyncpg.LockNotAvailableError():
            return Locked(
                f"PostgreSQL at {where}: another transaction holds a lock that this one needs",
                hint="it is ended after 5 s if it is idle and ours; else look for it in pg_stat_activity and pg_locks",
            )
        case asyncpg.QueryCanceledError():
            return StoreUnavailable(
                f"PostgreSQL at {where} ended a statement that took too long", hint="see whether it is overloaded"
            )
        case asyncpg.DiskFullError():
            return StoreUnavailable(
                f"the disk of PostgreSQL at {where} is full: {_said(error)}",
                hint="give it space; for less data lower retention.events_days and retention.attempts_days",
            )
        case TimeoutError():
            return StoreUnavailable(
                f"PostgreSQL at {where} did not answer in time", hint="see whether it is overloaded or stopped"
            )
        case ssl.SSLCertVerificationError():
            return StoreUnavailable(
                f"PostgreSQL at {where} does not prove who it is: {error.verify_message.rstrip('.')}",
                hint="renew its certificate if that has expired; else name the authority that signed it in "
                "sslrootcert, and in database.url the host that it is for",
            )
        case ssl.SSLError():
            return StoreUnavailable(
                f"PostgreSQL at {where} and this machine do not agree on TLS ({error.reason or error})",
                hint="see which versions of TLS the server takes and database.url asks for, and the files of "
                "sslrootcert, sslcert and sslkey",
            )
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return StoreUnavailable(
                f"PostgreSQL at {where} takes no TLS, and sslmode in database.url asks for it",
                hint="turn ssl on in the server, or leave sslmode out if the network between is your own",
            )
        case asyncpg.TargetServerAttributeNotMatched():
            return StoreUnavailable(
                f"PostgreSQL at {where} is not the one that target_session_attrs asks for",
                hint="remove it from database.url, and PGTARGETSESSIONATTRS from the environment: the primary is found "
                "without it",
            )
        case socket.gaierror():
            return StoreUnavailable(
                f"PostgreSQL at {where} is not reachable: its host has no address",
                hint="see whether database.url names the right host, and whether DNS answers",
            )
        case asyncpg.PostgresError() if is_outage(error) and not isinstance(error, asyncpg.ConnectionDoesNotExistError):
            return StoreUnavailable(
                f"PostgreSQL at {where} is not available: {_said(error)}",
                hint="see its log if that does not pass",
            )
        case _ if is_outage(error):
            return StoreUnavailable(
                f"PostgreSQL at {where} is not reachable ({type(error).__name__})",
                hint="see whether it runs, and whether database.url names the right host and port",
            )
        case asyncpg.PostgresError():
            return StoreError(f"PostgreSQL at {where}: {error.args[0]}")
        case _:
            return error


def _right_to(error: asyncpg.PostgresError) -> str:
    if "for database" in _said(error):  # a schema is made in it, the first time
        return "let the role own the database (createdb --owner), or GRANT CREATE ON DATABASE to it"
    return "use the role that owns the schema hookledger"


def _is_parent(error: asyncpg.PostgresError) -> bool:
    """True if no partition takes a row, and not if one refuses it. Servers and tests may leave the table out."""
    return error.table_name in {None, "domain_event", "attempt"}


def _said(error: asyncpg.PostgresError) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


def is_outage(error: Exception) -> bool:
    """True if trying again later may help: the connection was lost, or the server starts, stops or lacks resources."""
    if isinstance(error, asyncpg.PostgresError):
        # Classes 08 connection, 40 deadlock, 53 resources (disk full, memory), 54 limits (no transaction id is left),
        # 55 the state of an object (lock timeout, a detach under way), 57 operator intervention, 58 system error, 72 an
        # old snapshot, XX what the server cannot read or did not expect. 25006 standby, 25P03 a transaction that was
        # idle too long, 25P04 one that was too long. None of them says that the statement is wrong: its stage waits for
        # another time or for a person, and the others go on.
        sqlstate = str(error.sqlstate or "")
        return (
            sqlstate[:2] in {"08", "40", "53", "54", "55", "57", "58", "72", "XX"}
            or sqlstate in {"25006", "25P03", "25P04"}
            or isinstance(error, asyncpg.InvalidCachedStatementError)  # the driver forgets it
        )
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def milliseconds(seconds: float) -> str:
    """A time as a setting of the server takes it."""
    return f"{seconds * 1000:.0f}ms"


def _terminate(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Closes a connection without a word. One that was lost in the same moment is the pool's again, and the driver says
    so by an error, which must not take the place of a cancel.
    """
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _no_reset(_connection: object) -> None:
    """Replaces the driver's reset, which costs a round trip: no statement on the pool changes a session's state."""
