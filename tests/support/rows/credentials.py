"""Tokens, sessions, login links and outcomes whose rows a test writes, with the MAC that a daemon would make."""

from __future__ import annotations

import base64

import asyncpg

from daemon.credentials.keys import Vault
from eventstore.access.macs import COLUMNS, KEY_COLUMNS, CredentialTable
from eventstore.postgres.connect import Database
from eventstore.progress.log_macs import KEY_BYTES, LogMacs
from eventstore.progress.rows import AttemptRow
from eventstore.route_log import sealed_secrets

# Their master key is that of tests/support/web/application.py and tests/support/pipeline/process.py.
VAULT = Vault([b"k" * 32])
MACS = VAULT.macs
# By a key that stands in the check value of every database that `let_vault_in` was called for.
LOG_MACS = LogMacs(b"o" * KEY_BYTES)
_CHECK_TEXT = b"hookledger 9 1 " + (b"o" * KEY_BYTES).hex().encode()


async def let_vault_in(database: Database) -> Vault:
    """The vault, and the check value that goes with LOG_MACS if the database has none."""
    vault = Vault([b"k" * 32])
    check = base64.b64encode(vault.seal(_CHECK_TEXT, b"master_key_check")).decode()
    await sealed_secrets.master_key_check(database, check)
    await vault.check(database)
    return vault


async def unsigned_outcomes(sql: asyncpg.Connection) -> list[int]:
    """The seqs of outcomes whose MAC is not right."""
    rows = await sql.fetch(f"SELECT mac, {', '.join(AttemptRow._fields)} FROM hookledger.attempt")
    return [row["seq"] for row in rows if LOG_MACS.of_outcome(AttemptRow(*list(row)[1:])) != row["mac"]]


async def sign_outcomes(sql: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy) -> None:
    """Makes the MACs of all outcomes anew, so that they count as written as they are."""
    for row in await sql.fetch(f"SELECT tableoid, ctid, {', '.join(AttemptRow._fields)} FROM hookledger.attempt"):
        table, place, *fields = row
        mac = LOG_MACS.of_outcome(AttemptRow(*fields))
        await sql.execute("UPDATE hookledger.attempt SET mac = $1 WHERE tableoid = $2 AND ctid = $3", mac, table, place)


async def authenticate(sql: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy) -> None:
    """Makes the MACs of all rows anew, so that they count as made as they are."""
    for table in CredentialTable:
        key = KEY_COLUMNS[table]
        for row in await sql.fetch(f"SELECT {COLUMNS[table]} FROM hookledger.{table}"):
            mac = MACS.of(table, dict(row))
            await sql.execute(f"UPDATE hookledger.{table} SET mac = $1 WHERE {key} = $2", mac, row[key])
