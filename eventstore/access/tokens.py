"""API tokens: of each its hash, what it is for, and whether it still is. Rows are never taken away.

Whether a token is dead is said by the database's clock, so that all processes agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from eventstore.postgres.connect import Database

# How exact last_used_at is.
_USE = "interval '1 minute'"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to store; `kind` and `tenant` are its scope, `hash` the SHA-256 of its text."""

    id: str
    kind: str
    tenant: str | None
    name: str
    hash: bytes
    created_by: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is shown of a token. `is_expired` by the database's clock."""

    id: str
    kind: str
    tenant: str | None
    name: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    is_expired: bool
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a token is judged by. `seconds_left` is None if it never expires, `is_unused` True if its use in this minute
    is yet to be noted.
    """

    kind: str
    tenant: str | None
    hash: bytes
    seconds_left: float | None
    is_revoked: bool
    is_unused: bool


_COLUMNS = (
    "id, kind, tenant, name, created_at, created_by, expires_at, "
    "coalesce(expires_at <= clock_timestamp(), false) AS is_expired, revoked_at, last_used_at"
)

_ADD = f"""
INSERT INTO hookledger.api_token (id, kind, tenant, name, hash, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_COLUMNS}
"""

_NEWEST = f"SELECT {_COLUMNS} FROM hookledger.api_token ORDER BY created_at DESC, id DESC LIMIT $1"
_NEWEST_BEFORE = f"""
SELECT {_COLUMNS} FROM hookledger.api_token WHERE (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $1
"""

_PROOF = f"""
SELECT kind, tenant, hash, extract(epoch FROM expires_at - clock_timestamp())::float AS seconds_left,
       revoked_at IS NOT NULL AS is_revoked,
       coalesce(last_used_at < clock_timestamp() - {_USE}, true) AS is_unused
  FROM hookledger.api_token WHERE id = $1
"""

# Of several processes one notes it.
_NOTE_USE = f"""
UPDATE hookledger.api_token SET last_used_at = clock_timestamp()
 WHERE id = $1 AND coalesce(last_used_at < clock_timestamp() - {_USE}, true)
"""

_REVOKE = f"""
UPDATE hookledger.api_token SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = $1 RETURNING {_COLUMNS}
"""


async def add(database: Database, new: NewToken) -> Token:
    """Stores a token."""
    async with database.connection() as connection:
        (row,) = await connection.fetch(
            _ADD, new.id, new.kind, new.tenant, new.name, new.hash, new.created_by, new.expires_at
        )
    return _token(row)


async def newest(database: Database, count: int, *, before: tuple[datetime, str] | None = None) -> Sequence[Token]:
    """So many tokens, the newest first; of those that are older than one with this time of creation and id."""
    async with database.connection() as connection:
        if before is None:
            rows = await connection.fetch(_NEWEST, count)
        else:
            rows = await connection.fetch(_NEWEST_BEFORE, count, *before)
    return [_token(row) for row in rows]


async def find(database: Database, token_id: str) -> Token | None:
    """The token with this id, None if there is none."""
    async with database.connection() as connection:
        row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM hookledger.api_token WHERE id = $1", token_id)
    return None if row is None else _token(row)


async def proof(database: Database, token_id: str, *, seconds: float) -> Proof | None:
    """What the token with this id is judged by, None if there is none."""
    async with database.connection(seconds=seconds) as connection:
        row = await connection.fetchrow(_PROOF, token_id)
    return None if row is None else Proof(**row)


async def note_use(database: Database, token_id: str, *, seconds: float) -> None:
    """Notes that a token was used just now, if that is not known to the minute already."""
    async with database.connection(seconds=seconds) as connection:
        await connection.execute(_NOTE_USE, token_id)


async def revoke(database: Database, token_id: str) -> Token | None:
    """Ends a token for good, and returns it; None if there is none. One that was revoked keeps the time of that."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_REVOKE, token_id)
    return None if row is None else _token(row)


def _token(row: asyncpg.Record) -> Token:
    return Token(**row)
