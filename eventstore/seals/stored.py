"""The table of seals: appended to by one process at a time, never changed, read by audits, proofs and lists.

The meaning of the columns and of their hashes is in daemon/core/sealing. Here they are rows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import NamedTuple

import asyncpg

from eventstore.domain_events.ticks import EMPTY_SNAP
from eventstore.postgres.connect import Database

PAGE_ROWS = 500
_HASHES_SECONDS = 60.0


# That of the seals that are made now. Those of form 1 do not cover manual retries, replays, losses and tokens.
FORM = 2


class SealMark(NamedTuple):
    """How far a seal goes. The mark before the first seal is the default."""

    n: int = 0
    origin: str = ""
    snap: str = EMPTY_SNAP
    tick: int = 0
    tick_snap: str = EMPTY_SNAP
    route_pos: int = 0
    form: int = FORM
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRow:
    """A row of `seal`; snapshots are texts. The last columns are null in a seal of form 1."""

    n: int
    at: datetime
    origin: str
    snap: str
    tick: int
    tick_snap: str
    route_pos: int
    route_hash: bytes
    event_days: list[date]
    event_rows: list[int]
    event_roots: list[bytes]
    attempt_days: list[date]
    attempt_rows: list[int]
    attempt_roots: list[bytes]
    ticks: int
    ticks_root: bytes
    keys: int
    keys_root: bytes
    signatures: int
    checkpoints: list[int]
    events_kept_from: datetime | None
    attempts_kept_from: datetime | None
    public_key: bytes
    prev_hash: bytes
    hash: bytes
    signature: bytes
    resends: str | None
    replays: str | None
    replay_ends: str | None
    losses: str | None
    tokens: str | None
    token_ends: str | None

    @property
    def form(self) -> int:
        texts = {self.resends, self.replays, self.replay_ends, self.losses, self.tokens, self.token_ends}
        return 1 if texts == {None} else FORM

    @property
    def mark(self) -> SealMark:
        return SealMark(self.n, self.origin, self.snap, self.tick, self.tick_snap, self.route_pos, self.form, self.at)


_NAMES = tuple(field.name for field in fields(SealRow))
_SNAPSHOTS = {"snap", "tick_snap"}
_COLUMNS = ", ".join(f"{name}::text" if name in _SNAPSHOTS else name for name in _NAMES)
_VALUES = ", ".join(
    f"${place}::text::pg_snapshot" if name in _SNAPSHOTS else f"${place}" for place, name in enumerate(_NAMES, 1)
)
_INSERT = f"INSERT INTO hookledger.seal ({', '.join(_NAMES)}) VALUES ({_VALUES})"
_NEWEST = f"SELECT {_COLUMNS} FROM hookledger.seal ORDER BY n DESC LIMIT 1"
_AFTER = f"SELECT {_COLUMNS} FROM hookledger.seal WHERE n > $1 ORDER BY n LIMIT $2"
_BEFORE = f"SELECT {_COLUMNS} FROM hookledger.seal WHERE n < $1 ORDER BY n DESC LIMIT $2"
_OF_OTHERS = f"SELECT {_COLUMNS} FROM hookledger.seal WHERE origin <> $1 ORDER BY n DESC LIMIT 1"
_OF_NUMBERS = f"SELECT {_COLUMNS} FROM hookledger.seal WHERE n = ANY ($1::bigint[]) ORDER BY n"
# In one value, which is quicker to read than as many rows.
_HASHES = "SELECT string_agg(hash, ''::bytea ORDER BY n) FROM hookledger.seal WHERE n > $1 AND n <= $2"
_HASH_BYTES = 32


async def append(connection: asyncpg.pool.PoolConnectionProxy, row: SealRow) -> None:
    """Appends a seal inside the transaction that has the right to (eventstore/seals/turns.py)."""
    await connection.execute(_INSERT, *(getattr(row, name) for name in _NAMES))


async def newest_of(connection: asyncpg.pool.PoolConnectionProxy) -> SealRow | None:
    """As `newest`, inside the caller's transaction."""
    row = await connection.fetchrow(_NEWEST)
    return None if row is None else SealRow(**row)


async def newest(database: Database) -> SealRow | None:
    """The newest seal, None if there is none."""
    async with database.connection() as connection:
        return await newest_of(connection)


async def after(database: Database, number: int, *, limit: int = PAGE_ROWS) -> list[SealRow]:
    """The seals after that number, oldest first."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_AFTER, number, limit)
    return [SealRow(**row) for row in rows]


async def older(database: Database, number: int, *, limit: int) -> list[SealRow]:
    """The seals before that number, newest first."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BEFORE, number, limit)
    return [SealRow(**row) for row in rows]


async def newest_of_others(database: Database, origin: str) -> SealMark:
    """The newest seal of another lineage than the present one, whose origin is given: how far the rows are covered that
    came here by a restore. An earlier lineage may have the name of the present one, if the log was moved away and back.
    The default if there is none.
    """
    async with database.connection(seconds=_HASHES_SECONDS) as connection:
        row = await connection.fetchrow(_OF_OTHERS, origin)
    return SealMark() if row is None else SealRow(**row).mark


async def of_numbers(database: Database, numbers: list[int]) -> dict[int, SealRow]:
    """The seals with these numbers, those that exist."""
    async with database.connection() as connection:
        rows = await connection.fetch(_OF_NUMBERS, numbers)
    return {row["n"]: SealRow(**row) for row in rows}


async def hashes_of(connection: asyncpg.pool.PoolConnectionProxy, *, after: int, upto: int) -> list[bytes]:
    """The hashes of the seals after a number up to another, in order: 32 bytes for each minute of the log's life."""
    together = await connection.fetchval(_HASHES, after, upto) or b""
    return [together[start : start + _HASH_BYTES] for start in range(0, len(together), _HASH_BYTES)]


async def hashes(database: Database, *, upto: int) -> list[bytes]:
    """The hashes of the first seals up to a number, in order."""
    async with database.connection(seconds=_HASHES_SECONDS) as connection:
        return await hashes_of(connection, after=0, upto=upto)
