"""The MAC of each token, login link and session: made with a key that is not in the database, and checked before a row
is believed.

It covers the columns that never change. So somebody who can only write to the database makes no row that a daemon
believes, and changes none of them. Nothing of a row is used but what was checked: a view in place of the table can have
another value for each mention of a column. No MAC covers when a token or session was last used, and that a token was
revoked: revoking works by SQL.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NoReturn

from eventstore.postgres.canonical import EPOCH, MICROSECOND, microseconds, netstring
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError

PAGE_ROWS = 1000

_SECONDS = 60.0


class CredentialTable(StrEnum):
    """The tables of what a caller shows to be let in."""

    TOKEN = "api_token"  # noqa: S105 - the name of a table
    LINK = "login_link"
    SESSION = "session"


# What a MAC covers, in this order. The rest changes, or belongs to a cluster.
COVERED: Mapping[CredentialTable, tuple[str, ...]] = {
    CredentialTable.TOKEN: ("id", "kind", "tenant", "name", "hash", "created_at", "created_by", "expires_at"),
    CredentialTable.LINK: ("hash", "tenant", "created_by", "expires_at", "actor", "role", "return_url", "path"),
    CredentialTable.SESSION: ("hash", "tenant", "created_at", "actor", "role"),
}
KEY_COLUMNS = {CredentialTable.TOKEN: "id", CredentialTable.LINK: "hash", CredentialTable.SESSION: "hash"}
_TIMES = ("created_at", "expires_at")

# Times are read as text: infinity and years before Christ are none that Python has, and may stand in a forged row.
COLUMNS = {
    table: ", ".join(
        f"trunc(extract(epoch FROM {name}) * 1000000)::text AS {name}_us" if name in _TIMES else name for name in names
    )
    + ", mac"
    for table, names in COVERED.items()
}


class NotAuthentic(StoreError):
    """A row that was not made, or not so, by anybody with the master key. `name` is what may be told of it: the id of a
    token, the tenant of a session or link.
    """

    def __init__(self, table: CredentialTable, name: str | None) -> None:
        super().__init__(f"a row of {table} was not made with the master key", hint="run hookledger audit")
        self.table = table
        self.name = name


class CredentialMacs:
    """Makes MACs with the first of its keys, and knows those of all of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def of(self, table: CredentialTable, row: Mapping[str, object]) -> bytes:
        """The MAC of a row: its columns by their names, times aware, or as `COLUMNS` reads them."""
        return hmac.digest(self._keys[0], _text(table, row), "sha256")

    def are_right(self, table: CredentialTable, row: Mapping[str, object]) -> bool:
        """True if a row has the MAC that one of the keys makes."""
        return self._key_of(table, row) is not None

    def require(self, table: CredentialTable, row: Mapping[str, object]) -> None:
        """Raises NotAuthentic for a row without the MAC that one of the keys makes."""
        if self._key_of(table, row) is None:
            _refuse(table, row)

    def renewed(self, table: CredentialTable, row: Mapping[str, object]) -> bytes | None:
        """The MAC by the first key of a row that has the one of another; None for all others."""
        return self.of(table, row) if self._key_of(table, row) not in (None, 0) else None

    def _key_of(self, table: CredentialTable, row: Mapping[str, object]) -> int | None:
        mac, text = row["mac"], _text(table, row)
        if not isinstance(mac, bytes):
            return None
        for number, key in enumerate(self._keys):
            if hmac.compare_digest(hmac.digest(key, text, "sha256"), mac):
                return number
        return None


class StoredCredential(NamedTuple):
    """A row as its MAC is checked. `shown` is how a person finds it: the id of a token, the hash of others."""

    shown: str
    tenant: str | None
    row: Mapping[str, object]


async def pages(database: Database, table: CredentialTable) -> AsyncIterator[list[StoredCredential]]:
    """Every row of a table, in pages. Rows that are added meanwhile may or may not be included."""
    after: object = "" if table is CredentialTable.TOKEN else b""
    while True:
        async with database.connection(seconds=_SECONDS) as connection:
            rows = [dict(row) for row in await connection.fetch(_PAGE[table], after, PAGE_ROWS)]
        if not rows:
            return
        yield [StoredCredential(_shown(row[KEY_COLUMNS[table]]), row["tenant"], row) for row in rows]
        after = rows[-1][KEY_COLUMNS[table]]


async def renew(database: Database, macs: CredentialMacs) -> int:
    """Makes the MACs by older keys anew, with the first one, while others use the rows. Returns how many those were.

    A row without a MAC, or with another one, stays as it is.
    """
    renewed = 0
    for table in CredentialTable:
        async for page in pages(database, table):
            fresh = [(each.row, mac) for each in page if (mac := macs.renewed(table, each.row)) is not None]
            keys, stale = [row[KEY_COLUMNS[table]] for row, _ in fresh], [row["mac"] for row, _ in fresh]
            async with database.connection(seconds=_SECONDS) as connection:
                done = await connection.fetch(_EXCHANGE[table], keys, stale, [mac for _, mac in fresh])
            renewed += len(done)
    return renewed


_PAGE = {
    table: f"SELECT {COLUMNS[table]} FROM hookledger.{table} WHERE {key} > $1 ORDER BY {key} LIMIT $2"
    for table, key in KEY_COLUMNS.items()
}
# Rows are locked in order, so that two exchanges of the master key at once do not deadlock.
_EXCHANGE = {
    table: f"""
WITH held AS MATERIALIZED (
    SELECT c.{key} AS key, n.fresh
      FROM unnest($1::{"text" if key == "id" else "bytea"}[], $2::bytea[], $3::bytea[]) AS n (key, stale, fresh)
      JOIN hookledger.{table} c ON c.{key} = n.key AND c.mac = n.stale
     ORDER BY c.{key} FOR NO KEY UPDATE OF c
)
UPDATE hookledger.{table} c SET mac = held.fresh FROM held WHERE c.{key} = held.key RETURNING true
"""
    for table, key in KEY_COLUMNS.items()
}


def moment(row: Mapping[str, object], name: str) -> datetime | None:
    """A time of a row whose MAC is right, None for null."""
    since = row[f"{name}_us"]
    return None if since is None else EPOCH + int(str(since)) * MICROSECOND


def _refuse(table: CredentialTable, row: Mapping[str, object]) -> NoReturn:
    name = row["id" if table is CredentialTable.TOKEN else "tenant"]
    raise NotAuthentic(table, None if name is None else str(name))


def _shown(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.hex()


def _text(table: CredentialTable, row: Mapping[str, object]) -> bytes:
    """What is authenticated: the name of the table, and each column."""
    return b"".join(map(netstring, (table.value, *(_value(row, name) for name in COVERED[table]))))


def _value(row: Mapping[str, object], name: str) -> str | None:
    value = row[f"{name}_us"] if f"{name}_us" in row else row[name]
    match value:
        case None | str():
            return value
        case bytes():
            return value.hex()
        case datetime():
            return str(microseconds(value))
        case _:
            raise TypeError(f"no column of {name} is a {type(value).__name__}")
