"""The dashboard's sessions and the one-time login links that begin them. Only hashes of secrets come here.

The database's clock decides whether a link or a session has expired. A row is believed if it has the right MAC
(macs.py); without it, each function that looks for one raises NotAuthentic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from eventstore.access.macs import COLUMNS, CredentialMacs, CredentialTable, moment
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


_LINK_EXPIRY = "SELECT clock_timestamp() + $1"
_ADD_LINK = """
INSERT INTO hookledger.login_link (hash, created_by, expires_at, tenant, actor, role, return_url, path, mac)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

# The thief of a token that was revoked since may have made links with it, and kept them.
_PENDING = f"""
SELECT {COLUMNS[CredentialTable.LINK]}, clock_timestamp() AS now FROM hookledger.login_link
 WHERE hash = $1 AND expires_at > clock_timestamp() AND NOT EXISTS (
    SELECT FROM hookledger.api_token t WHERE 'token:' || t.id = login_link.created_by AND t.revoked_at IS NOT NULL
)
"""

_NOW = "SELECT clock_timestamp()"
# Somebody else who takes the link at the same time waits here, and then finds none.
_TAKE = f"{_PENDING} FOR UPDATE OF login_link"
_BEGIN = """
WITH taken AS (
    DELETE FROM hookledger.login_link WHERE hash = $1
), replaced AS (
    DELETE FROM hookledger.session WHERE hash = $2
)
INSERT INTO hookledger.session (hash, tenant, created_at, actor, role, mac) VALUES ($3, $4, $5, $6, $7, $8)
"""

_FIND = f"""
SELECT {COLUMNS[CredentialTable.SESSION]}, clock_timestamp() AS now, last_seen_at + $3 AS idle_until,
       last_seen_at < clock_timestamp() - $4::interval AS is_unseen
  FROM hookledger.session
 WHERE hash = $1 AND created_at + $2 > clock_timestamp() AND last_seen_at + $3 > clock_timestamp()
   AND last_seen_at < '9000-01-01'
"""

_SWEEP = """
WITH links AS (
    DELETE FROM hookledger.login_link WHERE expires_at < clock_timestamp()
)
DELETE FROM hookledger.session
 WHERE created_at + $1 < clock_timestamp() OR last_seen_at + $2 < clock_timestamp()
"""


async def add_link(
    database: Database,
    link_hash: bytes,
    link: PendingLink,
    *,
    created_by: str,
    life: timedelta,
    macs: CredentialMacs,
) -> datetime:
    """Stores a one-time link and returns the time at which it expires. `life` is how long the link is valid."""
    async with database.connection() as connection:
        expires_at: datetime = await connection.fetchval(_LINK_EXPIRY, life)
        row = {"hash": link_hash, "created_by": created_by, "expires_at": expires_at, **asdict(link)}
        await connection.execute(_ADD_LINK, *row.values(), macs.of(CredentialTable.LINK, row))
    return expires_at


async def pending(database: Database, link_hash: bytes, *, macs: CredentialMacs) -> PendingLink | None:
    """A link, None if it does not exist or works no more. It can be used afterwards. Raises NotAuthentic."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_PENDING, link_hash)
    return None if row is None else _link(dict(row), link_hash, macs)


async def begin(
    database: Database, link_hash: bytes, session_hash: bytes, *, macs: CredentialMacs, replaced: bytes | None = None
) -> PendingLink | None:
    """Uses up a link, begins its session and ends the session with the hash `replaced`. Returns the link.

    None, and nothing ends, if the link was used before, has expired or does not exist, or its token was revoked. Nor
    does anything if it raises NotAuthentic.
    """
    async with database.transaction() as connection:
        found = await connection.fetchrow(_TAKE, link_hash)
        link = None if found is None else _link(dict(found), link_hash, macs)
        if link is None:
            return None
        created_at: datetime = await connection.fetchval(_NOW)
        row = {
            "hash": session_hash,
            "tenant": link.tenant,
            "created_at": created_at,
            "actor": link.actor,
            "role": link.role,
        }
        await connection.execute(_BEGIN, link_hash, replaced, *row.values(), macs.of(CredentialTable.SESSION, row))
    return link


async def find(database: Database, session_hash: bytes, *, macs: CredentialMacs) -> Session | None:
    """The session, or None if it does not exist or has ended. Raises NotAuthentic."""
    async with database.connection() as connection:
        found = await connection.fetchrow(_FIND, session_hash, ABSOLUTE, IDLE, SEEN)
    if found is None:
        return None
    row = dict(found) | {"hash": session_hash}
    macs.require(CredentialTable.SESSION, row)
    created_at = moment(row, "created_at")
    if created_at is None or created_at + ABSOLUTE <= row["now"]:
        return None
    return Session(
        tenant=row["tenant"],
        actor=row["actor"],
        role=row["role"],
        created_at=created_at,
        expires_at=created_at + ABSOLUTE,
        idle_until=row["idle_until"],
        is_unseen=row["is_unseen"],
    )


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


def _link(found: Mapping[str, Any], link_hash: bytes, macs: CredentialMacs) -> PendingLink | None:
    row = {**found, "hash": link_hash}
    macs.require(CredentialTable.LINK, row)
    expires_at = moment(row, "expires_at")
    if expires_at is None or expires_at <= row["now"]:
        return None
    return PendingLink(**{field.name: row[field.name] for field in fields(PendingLink)})
