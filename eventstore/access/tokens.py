"""API tokens: the hash of each, its scope, and whether it is still valid. Rows are never deleted.

The database's clock decides whether a token has expired, so that all processes agree. A row is believed if it has the
right MAC (macs.py); lists show the others, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

import asyncpg

from eventstore.access.macs import COLUMNS, CredentialMacs, CredentialTable, moment
from eventstore.postgres.connect import Database

# The resolution of last_used_at.
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
    """A token as it is listed: everything but the hash. `is_expired` is by the database's clock. `is_authentic` is
    False if its row has not the right MAC; where that cannot be told, if it has none.
    """

    id: str
    kind: str
    tenant: str | None
    name: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    is_expired: bool
    is_authentic: bool
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a request's token is verified against. `seconds_left` is None if the token never expires. `is_unused` is
    True if no use of it was noted in the last minute, `is_authentic` if the row has the right MAC.
    """

    kind: str
    tenant: str | None
    hash: bytes
    seconds_left: float | None
    is_revoked: bool
    is_unused: bool
    is_authentic: bool


_COLUMNS = (
    f"{COLUMNS[CredentialTable.TOKEN]}, created_at, expires_at, "
    "coalesce(expires_at <= clock_timestamp(), false) AS is_expired, revoked_at, last_used_at"
)

_NOW = "SELECT clock_timestamp()"
_ADD = f"""
INSERT INTO hookledger.api_token (id, kind, tenant, name, hash, created_by, expires_at, created_at, mac)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}
"""

_NEWEST = f"SELECT {_COLUMNS} FROM hookledger.api_token ORDER BY created_at DESC, id DESC LIMIT $1"
_NEWEST_BEFORE = f"""
SELECT {_COLUMNS} FROM hookledger.api_token WHERE (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $1
"""

_PROOF = f"""
SELECT {COLUMNS[CredentialTable.TOKEN]}, clock_timestamp() AS now,
       revoked_at IS NOT NULL AS is_revoked,
       coalesce(last_used_at < clock_timestamp() - {_USE}, true) AS is_unused
  FROM hookledger.api_token WHERE id = $1
"""

# If several processes note a use in the same minute, one of them writes.
_NOTE_USE = f"""
UPDATE hookledger.api_token SET last_used_at = clock_timestamp()
 WHERE id = $1 AND coalesce(last_used_at < clock_timestamp() - {_USE}, true)
"""

_REVOKE = f"""
UPDATE hookledger.api_token
   SET revoked_at = coalesce(revoked_at, clock_timestamp()),
       revoked_txid = coalesce(revoked_txid, pg_current_xact_id()::text::bigint)
 WHERE id = $1 RETURNING {_COLUMNS}
"""


async def add(database: Database, new: NewToken, *, macs: CredentialMacs) -> Token:
    """Stores a token."""
    async with database.connection() as connection:
        created_at: datetime = await connection.fetchval(_NOW)
        made = {**asdict(new), "created_at": created_at}
        (row,) = await connection.fetch(_ADD, *made.values(), macs.of(CredentialTable.TOKEN, made))
    return _token(row, macs)


async def newest(
    database: Database, count: int, *, macs: CredentialMacs | None, before: tuple[datetime, str] | None = None
) -> Sequence[Token]:
    """At most `count` tokens, the newest first. `before` is the creation time and id of a token: only older ones are
    listed.
    """
    async with database.connection() as connection:
        if before is None:
            rows = await connection.fetch(_NEWEST, count)
        else:
            rows = await connection.fetch(_NEWEST_BEFORE, count, *before)
    return [_token(row, macs) for row in rows]


async def find(database: Database, token_id: str, *, macs: CredentialMacs | None) -> Token | None:
    """The token with this id, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM hookledger.api_token WHERE id = $1", token_id)
    return None if row is None else _token(row, macs)


async def proof(database: Database, token_id: str, *, macs: CredentialMacs, seconds: float) -> Proof | None:
    """What a request with this token id is verified against, or None if there is no such token."""
    async with database.connection(seconds=seconds) as connection:
        found = await connection.fetchrow(_PROOF, token_id)
    if found is None:
        return None
    row = dict(found)
    is_authentic = macs.are_right(CredentialTable.TOKEN, row)
    expires_at = moment(row, "expires_at") if is_authentic else None
    return Proof(
        is_authentic=is_authentic,
        seconds_left=None if expires_at is None else (expires_at - row["now"]).total_seconds(),
        **{name: row[name] for name in ("kind", "tenant", "hash", "is_revoked", "is_unused")},
    )


async def note_use(database: Database, token_id: str, *, seconds: float) -> None:
    """Notes that a token was used now, unless a use was noted within the last minute."""
    async with database.connection(seconds=seconds) as connection:
        await connection.execute(_NOTE_USE, token_id)


async def revoke(database: Database, token_id: str, *, macs: CredentialMacs | None = None) -> Token | None:
    """Revokes a token and returns it, or None if there is none.

    A token that was revoked before keeps its first time.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_REVOKE, token_id)
    return None if row is None else _token(row, macs)


def _token(found: asyncpg.Record, macs: CredentialMacs | None) -> Token:
    row = dict(found)
    is_authentic = row["mac"] is not None if macs is None else macs.are_right(CredentialTable.TOKEN, row)
    return Token(
        is_authentic=is_authentic,
        **{field.name: row[field.name] for field in fields(Token) if field.name != "is_authentic"},
    )
