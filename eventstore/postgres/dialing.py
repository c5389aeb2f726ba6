"""Connects to the server of a database that takes writes, of one or several that its URL names.

Each server gets its part of the time, so that one whose host is gone does not use up that of the others. A standby is
passed over: everything here writes, and what it reads must be what was written last. The server that was found last is
asked first.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from eventstore.postgres.builtin_types import KnowingConnection
from eventstore.postgres.database_url import WRITE_URL, parsed
from eventstore.postgres.errors import MalformedUrl, Standby, UnsafeServer

# Of a connection that another server may be asked for.
_ELSEWHERE = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TargetServerAttributeNotMatched,
)
_POOLED = "a connection pooler stands between Hookledger and PostgreSQL"
_DIRECTLY = "let database.url lead to PostgreSQL itself: the daemon is a pool, and needs sessions of its own"


Connection = asyncpg.Connection | PoolConnectionProxy


class Dialer:
    """Makes connections: call it. `where` names the servers in messages. Raises MalformedUrl when it is made."""

    def __init__(self, url: str, *, where: str, settings: Mapping[str, str], seconds: float) -> None:
        address = parsed(url)
        _check_files(address.tls)
        self._servers = list(address.servers)
        self._where = where
        self._settings = address.settings | dict(settings)
        self._seconds_each = seconds / len(self._servers)

    async def __call__(self) -> asyncpg.Connection:
        """A connection to a server that takes writes. Raises the driver's error, or Standby, of the last one asked."""
        last: Exception = MalformedUrl("database.url names no server", hint=WRITE_URL)
        for server in tuple(self._servers):
            try:
                connection = await asyncpg.connect(
                    server,
                    server_settings=self._settings,
                    timeout=self._seconds_each,
                    connection_class=KnowingConnection,
                )
            except ssl.SSLCertVerificationError as error:  # a ValueError, too
                last = error
                continue
            except ValueError as error:
                if "root certificate file" in str(error):
                    raise MalformedUrl(
                        "database.url has the server verified, and names no file with the authorities that may sign",
                        hint="name it, as in sslrootcert=/etc/ssl/certs/ca-certificates.crt",
                    ) from None
                # Not chained: the parser's message may quote a part of the password.
                raise MalformedUrl(f"database.url is not understood ({self._where})", hint=WRITE_URL) from None
            except asyncpg.UndefinedObjectError as error:
                raise MalformedUrl(
                    f"database.url has a parameter that PostgreSQL does not know: {error.args[0]}", hint="remove it"
                ) from error
            except asyncpg.ProtocolViolationError as error:
                if "startup parameter" in str(error.args[0]):
                    raise UnsafeServer(_POOLED, hint=_DIRECTLY) from error
                raise
            except _ELSEWHERE as error:
                last = error
                continue
            if is_standby(connection):
                connection.terminate()
                last = Standby(self._where)
                continue
            self._servers.remove(server)
            self._servers.insert(0, server)
            return connection
        raise last


async def require_direct(connection: Connection) -> None:
    """Raises UnsafeServer if somebody between us and PostgreSQL gives out its sessions.

    A pooler cannot tell which process of the server will serve the connection, so the one that it named is another.
    """
    if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
        raise UnsafeServer(_POOLED, hint=_DIRECTLY)


def is_standby(connection: Connection) -> bool:
    """True if the server was a standby when it was last heard of. It tells each session when that changes."""
    return getattr(connection.get_settings(), "in_hot_standby", "off") == "on"


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
