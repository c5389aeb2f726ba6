"""The dashboard's sessions and the one-time login links that begin them. Only hashes of secrets come here.

The database's clock decides whether a link or a session has expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventstore.postgres.connect import Database

# An unused session ends after IDLE. Every session ends after ABSOLUTE.
IDLE = timedelta(hours=8)
ABSOLUTE = timedelta(hours=24)

# The resolution of last_seen_at.
SEEN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`tenant` is None for the administrator. `actor` is who stands in the route log, `role` what they may do: manage
    or view. The session ends at `expires_at`, or at `idle_until` if it is not used before. `is_unseen` is True if its
    last use was noted more than SEEN ago.
    """

    tenant: str | None
    actor: str
    role: str
    created_at: datetime
    expires_at: datetime
    idle_until: datetime
    is_unseen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLink:
    """A login link that still works. `tenant` is None for the administrator.

    `actor` and `role` are those of the session that it begins. `return_url` is where the session leads back to, None
    for what the installation says; `path` is the page that it leads to, None for the first one.
    """

    tenant: str | None
    actor: str
    role: str
    return_url: str | None = None
    path: str | None = None


_ADD_LINK = """
INSERT INTO hookledger.login_link (hash, created_by, expires_at, tenant, actor, role, return_url, path)
VALUES ($1, $2, clock_timestamp() + $3, $4, $5, $6, $7, $8) RETURNING expires_at
"""

# The thief of a token that was revoked since may have made links with it, and kept them.
_WORKS = """
expires_at > clock_timestamp() AND NOT EXISTS (
    SELECT FROM hookledger.api_token t WHERE 'token:' || t.id = login_link.created_by AND t.revoked_at IS NOT NULL
)
"""

_PENDING = f"""
SELECT tenant, actor, role, return_url, path FROM hookledger.login_link WHERE hash = $1 AND {_WORKS}
"""

_BEGIN = f"""
WITH taken AS (
    DELETE FROM hookledger.login_link WHERE hash = $1
    RETURNING tenant, actor, role, return_url, path, {_WORKS} AS works
), replaced AS (
    DELETE FROM hookledger.session WHERE hash = $3 AND EXISTS (SELECT FROM taken WHERE works)
), begun AS (
    INSERT INTO hookledger.session (hash, tenant, actor, role) SELECT $2, tenant, actor, role FROM taken WHERE works
)
SELECT tenant, actor, role, return_url, path FROM taken WHERE works
"""

_FIND = """
SELECT tenant, actor, role, created_at, created_at + $2 AS expires_at, last_seen_at + $3 AS idle_until,
       last_seen_at < clock_timestamp() - $4::interval AS is_unseen
  FROM hookledger.session
 WHERE hash = $1 AND created_at + $2 > clock_timestamp() AND last_seen_at + $3 > clock_timestamp()
"""

_SWEEP = """
WITH links AS (
    DELETE FROM hookledger.login_link WHERE expires_at < clock_timestamp()
)
DELETE FROM hookledger.session
 WHERE created_at + $1 < clock_timestamp() OR last_seen_at + $2 < clock_timestamp()
"""


async def add_link(
    database: Database, link_hash: bytes, link: PendingLink, *, created_by: str, life: timedelta
) -> datetime:
    """Stores a one-time link and returns the time at which it expires. `life` is how long the link is valid."""
    columns = (link.tenant, link.actor, link.role, link.return_url, link.path)
    async with database.connection() as connection:
        expires_at: datetime = await connection.fetchval(_ADD_LINK, link_hash, created_by, life, *columns)
    return expires_at


async def pending(database: Database, link_hash: bytes) -> PendingLink | None:
    """A link, None if it does not exist or works no more. It can be used afterwards."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_PENDING, link_hash)
    return None if row is None else PendingLink(**row)


async def begin(
    database: Database, link_hash: bytes, session_hash: bytes, *, replaced: bytes | None = None
) -> PendingLink | None:
    """Uses up a link, begins its session and ends the session with the hash `replaced`. Returns the link.

    None, and nothing ends, if the link was used before, has expired or does not exist, or its token was revoked.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_BEGIN, link_hash, session_hash, replaced)
    return None if row is None else PendingLink(**row)


async def find(database: Database, session_hash: bytes) -> Session | None:
    """The session, or None if it does not exist or has ended."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FIND, session_hash, ABSOLUTE, IDLE, SEEN)
    return None if row is None else Session(**row)


async def note_use(database: Database, session_hash: bytes) -> None:
    """Notes that the session was used now."""
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE hookledger.session SET last_seen_at = clock_timestamp() WHERE hash = $1", session_hash
        )


async def end(database: Database, session_hash: bytes) -> None:
    """Ends the session, if there is one."""
    async with database.connection() as connection:
        await connection.execute("DELETE FROM hookledger.session WHERE hash = $1", session_hash)


async def sweep(database: Database) -> None:
    """Deletes expired links and ended sessions."""
    async with database.connection() as connection:
        await connection.execute(_SWEEP, ABSOLUTE, IDLE)
