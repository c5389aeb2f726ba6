"""Makes the MACs of tokens, login links and sessions from before version 8 of the schema: once, in its migration.

Somebody who can only write to the database could else take the version back, make a row, and wait for a restart. So the
check value of the master key says, sealed under that key, whether rows have MACs, and a database of which it says so is
not adopted again. Only who kept the value from before the migration can take that back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from eventstore.access.macs import COLUMNS, KEY_COLUMNS, CredentialMacs, CredentialTable
from eventstore.postgres.errors import SchemaMismatch

SINCE_VERSION = 8

_CHECK = "SELECT value FROM hookledger.meta WHERE key = 'master_key_check' FOR UPDATE"
_LEFT = "SELECT count(*) FROM hookledger.api_token WHERE revoked_at IS NULL"
_REPLACE_CHECK = "UPDATE hookledger.meta SET value = $1 WHERE key = 'master_key_check'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopter:
    """What has the master key. `check_with_macs` makes the check value of a database whose rows have MACs from the one
    that there was, or raises.
    """

    macs: CredentialMacs
    check_with_macs: Callable[[str], str]


async def adopt(connection: asyncpg.pool.PoolConnectionProxy, *, adopter: Adopter | None) -> int:
    """Makes the MAC of each row, in the transaction of the migration. Without an adopter there must be no check value.

    Without a check value no daemon has ever worked on the database: then its rows get no MAC, and are not believed.
    Returns how many tokens that are not revoked are left so.
    """
    stored: str | None = await connection.fetchval(_CHECK)
    if stored is None:
        return int(await connection.fetchval(_LEFT))
    if adopter is None:
        raise SchemaMismatch("somebody works with the older version", hint="stop every daemon, and repeat it")
    await connection.execute(_REPLACE_CHECK, adopter.check_with_macs(stored))
    for table in CredentialTable:
        rows = [dict(row) for row in await connection.fetch(f"SELECT {COLUMNS[table]} FROM hookledger.{table}")]
        keys = [row[KEY_COLUMNS[table]] for row in rows]
        await connection.execute(_ADOPT[table], keys, [adopter.macs.of(table, row) for row in rows])
    return 0


_ADOPT = {
    table: f"""
UPDATE hookledger.{table} c SET mac = n.mac
  FROM unnest($1::{"text" if key == "id" else "bytea"}[], $2::bytea[]) AS n (key, mac)
 WHERE c.{key} = n.key
"""
    for table, key in KEY_COLUMNS.items()
}
