"""Tokens, sessions and login links whose rows a test changes or writes by SQL, with the MAC that a daemon would make."""

from __future__ import annotations

import asyncpg

from daemon.credentials.keys import Vault
from eventstore.access.macs import COLUMNS, KEY_COLUMNS, CredentialTable

# Their master key is that of tests/support/web/application.py and tests/support/pipeline/process.py.
MACS = Vault([b"k" * 32]).macs


async def authenticate(sql: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy) -> None:
    """Makes the MACs of all rows anew, so that they count as made as they are."""
    for table in CredentialTable:
        key = KEY_COLUMNS[table]
        for row in await sql.fetch(f"SELECT {COLUMNS[table]} FROM hookledger.{table}"):
            mac = MACS.of(table, dict(row))
            await sql.execute(f"UPDATE hookledger.{table} SET mac = $1 WHERE {key} = $2", mac, row[key])
