"""Connects to the server of a database that takes writes, of one or several that its URL names.

Each server gets its part of the time, so that one whose host is gone does not use up that of the others. A standby is
passed over: everything here writes, and what it reads must be what was written last. The server that was found last is
asked first.

A server that is behind the newest timeline seen is passed over, too. It is a former primary that goes on, or was
started again, after another one was promoted: it takes writes, and what it gets is lost. A name may lead to both of
them. So each connection knows on which timeline it is, and none is used once a later one was seen (`require_primary`);
since a pool that works makes no connection, somebody has to `look` now and then.

What keeps a session from beginning is an outage, since it may pass: a certificate is renewed, a database takes
connections again. Only what the URL itself says wrongly is not, and a file that it names and that is of no use when the
daemon starts; one that goes away later may be on its way to be renewed.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from eventstore.postgres.errors import (
    AccessRefused,
    FormerPrimary,
    MalformedUrl,
    Standby,
    StoreError,
    StoreUnavailable,
    UnsafeServer,
)
from eventstore.postgres.servers.database_url import WRITE_URL, ServerUrls, location, parsed
from eventstore.postgres.servers.introspection import KnowingConnection

# Failures of a connection after which another server is asked.
_ELSEWHERE = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TargetServerAttributeNotMatched,
)
# Classes and codes of what a server says at the door that have a translation of their own.
_KNOWN_REFUSALS = ("08", "28", "3D", "42501", "53", "57")
TRANSACTION_TIMEOUT_SINCE = 17
# From which the driver takes what the URL leaves out, and may make nothing of it.
_VARIABLES = (
    *("PGPORT", "PGSSLMODE", "PGSSLNEGOTIATION", "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION"),
    *("PGTARGETSESSIONATTRS", "PGGSSLIB", "PGSERVICE", "PGSERVICEFILE"),
)
_POOLED = "a connection pooler stands between Hookledger and PostgreSQL"
_DIRECTLY = "let database.url lead to PostgreSQL itself: the daemon is a pool, and needs sessions of its own"


Connection = asyncpg.Connection | PoolConnectionProxy


class _Newest(NamedTuple):
    """The newest timeline of the write-ahead log that this process has seen, and the cluster whose it is: after a
    restore or pg_upgrade it may be another one's, which begins anew.
    """

    timeline: int
    cluster: str


# By the servers of a URL.
_newest: dict[frozenset[str], _Newest] = {}
# Those of which more than one timeline was seen: only their connections have to be looked at before each use.
_promoted: set[frozenset[str]] = set()


class Dialer:
    """Makes connections: call it. `where` names the servers in messages. Raises MalformedUrl when it is made."""

    def __init__(self, url: str, *, where: str, settings: Mapping[str, str], seconds: float) -> None:
        address = parsed(url)
        _check_user(address)
        _check_authorities(address)
        _check_files(address.tls)
        self._servers = list(address.servers)
        self._where = where
        self._all = frozenset(address.servers)
        self._files = {name: path for name, path in address.tls.items() if name != "sslpassword"}
        self._settings = address.settings | dict(settings)
        self._has_timelines = True
        self._leads_elsewhere = len(self._servers) > 1 or not _is_socket(self._servers[0])
        self._seconds_each = seconds / len(self._servers)

    async def __call__(self) -> asyncpg.Connection:
        """A connection to a server that takes writes. Raises the driver's error, or Standby, of the last one asked."""
        last: Exception = MalformedUrl("database.url names no server", hint=WRITE_URL)
        former: FormerPrimary | None = None
        if len(self._servers) > 1 and self._all not in _newest:
            await self.look()
        for server in tuple(self._servers):
            try:
                connection = await self._primary(server)
            except FormerPrimary as error:
                former = error
                continue
            except (*_ELSEWHERE, Standby) as error:
                last = self._of_files(error) or error
                continue
            self._servers.remove(server)
            self._servers.insert(0, server)
            return connection
        raise former or last

    async def look(self) -> None:
        """Notes what each server shows, or the one to which a name leads now. A socket alone leads to the same one."""
        if self._leads_elsewhere:
            await asyncio.gather(*map(self._look_at, self._servers))

    async def _look_at(self, server: str) -> None:
        """Notes the timeline of a server. What is wrong with it is left to be found when it is to be used."""
        with suppress(*_ELSEWHERE, asyncpg.PostgresError, StoreError):
            (await self._primary(server)).terminate()

    async def _primary(self, server: str) -> KnowingConnection:
        """A connection to that server. Raises Standby, FormerPrimary, or what `_session` raises."""
        connection = await self._session(server)
        refusal: StoreUnavailable | None = None
        try:
            if is_standby(connection):
                refusal = Standby(self._where)
            elif not await self._is_newest(connection):
                refusal = FormerPrimary(self._where)
        except BaseException:
            connection.terminate()
            raise
        if refusal is not None:
            connection.terminate()
            raise refusal
        return connection

    async def _is_newest(self, connection: KnowingConnection) -> bool:
        """True if no server of these was seen on a later timeline."""
        if not self._has_timelines:
            return True
        try:
            timeline = await _timeline(connection)
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise Standby(self._where) from error
        self._has_timelines = timeline != 0 or len(self._servers) > 1  # to ask again fills the log of the server
        newest = _newest.get(self._all)
        if timeline != 0 and (newest is None or timeline != newest.timeline):
            found = _Newest(timeline, await _cluster(connection))
            newest = _newest.get(self._all)  # others look meanwhile
            if newest is not None and newest.cluster == found.cluster and newest.timeline > timeline:
                return False
            if newest is not None:
                _promoted.add(self._all)
            _newest[self._all] = found
        connection.servers, connection.timeline = self._all, timeline
        return True

    async def _session(self, server: str) -> KnowingConnection:
        try:
            connection = await asyncpg.connect(
                server,
                port=urlsplit(server).port,  # else the driver reads PGPORT before the URL, and refuses a list there
                server_settings=self._settings,
                timeout=self._seconds_each,
                connection_class=KnowingConnection,
            )
            await self._set_newer_settings(connection)
            return connection
        except ssl.SSLCertVerificationError:  # which is a ValueError, too
            raise
        except ValueError as error:
            # Not chained: the parser's message may quote a part of the password.
            if isinstance(error, asyncpg.ClientConfigurationError) and str(error).startswith("root certificate"):
                raise StoreUnavailable(
                    "sslmode in database.url asks for a file of authorities, and there is none",
                    hint="name it: sslrootcert=/path/to/ca.pem",
                ) from None
            raise MalformedUrl(f"database.url is not understood ({self._where})", hint=WRITE_URL + _added()) from None
        except asyncpg.UndefinedObjectError as error:
            raise MalformedUrl(
                f"database.url has a parameter that PostgreSQL does not know: {error.args[0]}", hint="remove it"
            ) from error
        except asyncpg.PostgresError as error:
            if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error.args[0]):
                raise UnsafeServer(_POOLED, hint=_DIRECTLY) from error
            if isinstance(error, _ELSEWHERE) or str(error.sqlstate).startswith(_KNOWN_REFUSALS):
                raise
            raise AccessRefused(
                f"PostgreSQL at {self._where} begins no session: {error.args[0]}",
                hint="correct that there, or what database.url asks for",
            ) from error

    async def _set_newer_settings(self, connection: asyncpg.Connection) -> None:
        """Those that PostgreSQL 15 does not know, so that a session could not begin with them. They cost a round trip.

        A role or a server may end long transactions: then a migration, a sweep or an audit would never come to its end.
        These versions also have triggers that fire at a login, and what one sets holds for the whole session, whatever
        it began with: another `search_path`, and another function stands in for sha256 in an audit.
        """
        if connection.get_server_version().major < TRANSACTION_TIMEOUT_SINCE:
            return
        try:
            await connection.execute("RESET ALL; SET transaction_timeout = 0", timeout=self._seconds_each)
        except BaseException:
            connection.terminate()
            raise

    def _of_files(self, error: Exception) -> StoreUnavailable | None:
        """What to say of an error if it is one of the URL's files that cannot be read; the driver does not name it."""
        if not isinstance(error, OSError):
            return None
        for name, path in self._files.items():
            try:
                Path(path).open("rb").close()
            except OSError as unread:
                return StoreUnavailable(
                    f"{name} in database.url cannot be read: {path} ({unread.strerror})",
                    hint="name a file that the daemon's user may read",
                )
        return None


async def _timeline(connection: asyncpg.Connection) -> int:
    """As hookledger.timeline() does, which a database need not have yet: 0 where there is no such log."""
    try:
        return int(
            await connection.fetchval(
                "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer"
            )
        )
    except asyncpg.FeatureNotSupportedError:
        return 0


async def _cluster(connection: asyncpg.Connection) -> str:
    return str(await connection.fetchval("SELECT system_identifier FROM pg_control_system()"))


async def require_direct(connection: Connection) -> None:
    """Raises UnsafeServer if somebody between us and PostgreSQL gives out its sessions.

    A pooler cannot tell which process of the server will serve the connection, so the one that it named is another.
    """
    if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
        raise UnsafeServer(_POOLED, hint=_DIRECTLY)


def _added() -> str:
    """The end of a hint that names the variables which say more than the URL."""
    found = [name for name in _VARIABLES if name in os.environ]
    return f"; look also at {', '.join(found)} in the environment" if found else ""


def _is_socket(server: str) -> bool:
    parts = urlsplit(server)
    place = unquote(parts.netloc.rpartition("@")[2]) or dict(parse_qsl(parts.query)).get("host", "")
    return place.startswith("/")


def is_standby(connection: Connection) -> bool:
    """True if the server was a standby when it was last heard of. It tells each session when that changes."""
    return getattr(connection.get_settings(), "in_hot_standby", "off") == "on"


def require_primary(connection: Connection, url: str) -> None:
    """Raises Standby, or FormerPrimary if another server was seen since that was promoted later. On the hot path."""
    if is_standby(connection):
        raise Standby(location(url))
    if not _promoted:
        return
    timeline: int = getattr(connection, "timeline", 0)
    servers: frozenset[str] = getattr(connection, "servers", frozenset())
    if timeline != 0 and servers in _promoted and _newest[servers].timeline > timeline:
        raise FormerPrimary(location(url))


def _check_authorities(address: ServerUrls) -> None:
    """Raises MalformedUrl if a server is to prove who it is, and nothing says who may vouch for it."""
    found = address.tls.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if address.is_verified and not found and not _has_own_authorities():
        raise MalformedUrl(
            "database.url has the server verified, and names no file with the authorities that may sign",
            hint="name it, as in sslrootcert=/etc/ssl/certs/ca-certificates.crt",
        )


def _has_own_authorities() -> bool:
    try:
        return (Path.home() / ".postgresql" / "root.crt").exists()
    except (RuntimeError, OSError):  # the user id of a container has no name, and so no home; or it may not look there
        return False


def _check_user(address: ServerUrls) -> None:
    """Raises MalformedUrl if nothing names the role: the driver takes that of the user then, who may have no name."""
    if address.names_user or os.environ.get("PGUSER"):
        return
    try:
        getpass.getuser()
    except (KeyError, OSError) as error:
        raise MalformedUrl(
            f"database.url names no role, and user id {os.getuid()} has no name",
            hint="write postgresql://ROLE@host/name",
        ) from error


def _check_files(given: Mapping[str, str]) -> None:
    """Raises MalformedUrl, naming the parameter, unless the files can be used: later that would look like an outage."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("sslrootcert", "sslcrl"):
        if given.get(name):
            with _naming(name):
                context.load_verify_locations(cafile=given[name])
    if given.get("sslcert"):
        with _naming("sslcert or sslkey" if given.get("sslkey") else "sslcert"):
            context.load_cert_chain(
                given["sslcert"], keyfile=given.get("sslkey") or None, password=lambda: given.get("sslpassword", "")
            )


@contextmanager
def _naming(parameter: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise MalformedUrl(
            f"database.url names a file in {parameter} that cannot be used for TLS ({error.reason or 'not PEM'})",
            hint="give a file in PEM format; a certificate needs the key that belongs to it, in sslkey",
        ) from error
    except OSError as error:
        raise MalformedUrl(
            f"database.url names a file in {parameter} that cannot be read: {error.strerror}",
            hint="see whether it is there, and whether this user may read it",
        ) from error
