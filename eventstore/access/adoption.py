"""Makes the MACs of tokens, login links and sessions from before version 8 of the schema, and a key for those of
outcomes from before version 9: once, in the migrations.

Somebody who can only write to the database could else take the version back, make a row, and wait for a restart. So the
check value of the master key says, sealed under that key, which rows have MACs, and a database of which it says so is
not adopted again. Only who kept the value from before the migration can take that back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from eventstore.access.macs import COLUMNS, KEY_COLUMNS, CredentialMacs, CredentialTable
from eventstore.postgres.errors import SchemaMismatch

CREDENTIALS_SINCE = 8
LOG_SINCE = 9

_CHECK = "SELECT value FROM hookledger.meta WHERE key = 'master_key_check' FOR UPDATE"
_LEFT = "SELECT count(*) FROM hookledger.api_token WHERE revoked_at IS NULL"
_NEWEST_SEAL = "SELECT coalesce(max(n), 0) FROM hookledger.seal"
_REPLACE_CHECK = "UPDATE hookledger.meta SET value = $1 WHERE key = 'master_key_check'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopter:
    """What has the master key. `check_value_of` makes the check value of a version from the one that there was, and
    from the number of the first seal of which every row of the log has a MAC; or raises.
    """

    macs: CredentialMacs
    check_value_of: Callable[[int, str, int], str]


async def adopt(connection: asyncpg.pool.PoolConnectionProxy, *, adopter: Adopter | None) -> int:
    """Makes the MAC of each token, login link and session, in the transaction of the migration. Without an adopter
    there must be no check value.

    Without a check value no daemon has ever worked on the database: then its rows get no MAC, and are not believed.
    Returns how many tokens that are not revoked are left so.
    """
    stored: str | None = await connection.fetchval(_CHECK)
    if stored is None:
        return int(await connection.fetchval(_LEFT))
    adopter = _present(adopter)
    await connection.execute(_REPLACE_CHECK, adopter.check_value_of(CREDENTIALS_SINCE, stored, 1))
    for table in CredentialTable:
        rows = [dict(row) for row in await connection.fetch(f"SELECT {COLUMNS[table]} FROM hookledger.{table}")]
        keys = [row[KEY_COLUMNS[table]] for row in rows]
        await connection.execute(_ADOPT[table], keys, [adopter.macs.of(table, row) for row in rows])
    return 0


async def begin_log_macs(connection: asyncpg.pool.PoolConnectionProxy, *, adopter: Adopter | None) -> None:
    """Makes the key of the log, in the transaction of the migration. What stands there and is not sealed yet has no
    MAC, and is covered by the next seal.
    """
    stored: str | None = await connection.fetchval(_CHECK)
    if stored is not None:
        first_seal = 2 + int(await connection.fetchval(_NEWEST_SEAL))
        check_value = _present(adopter).check_value_of(LOG_SINCE, stored, first_seal)
        await connection.execute(_REPLACE_CHECK, check_value)


def _present(adopter: Adopter | None) -> Adopter:
    if adopter is None:
        raise SchemaMismatch("somebody works with the older version", hint="stop every daemon, and repeat it")
    return adopter


_ADOPT = {
    table: f"""
UPDATE hookledger.{table} c SET mac = n.mac
  FROM unnest($1::{"text" if key == "id" else "bytea"}[], $2::bytea[]) AS n (key, mac)
 WHERE c.{key} = n.key
"""
    for table, key in KEY_COLUMNS.items()
}
