"""Seals in tests: who makes them, whose keys they have, how they are audited."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg

from daemon.credentials.keys import Vault
from daemon.sealing.anchoring.anchors import Anchor, parse_anchors
from daemon.sealing.auditing import audit_seals
from daemon.sealing.report import SealReport
from daemon.sealing.sealer import Sealed, Sealer
from eventstore.postgres.connect import Database

VAULT = Vault([b"k" * 32])  # that of tests/support/pipeline/process.py
PUBLIC_KEYS = [key.public for key in VAULT.seal_keys]

# Whatever an audit of seals looks at.
SEALED_TABLES = (
    "route_event", "route_event_signature", "route_key", "route_headers", "domain_event", "attempt", "tick", "checkpoint",
    "meta", "seal", "resend", "replay", "lost_log", "api_token",
)  # fmt: skip


async def seal(database: Database) -> Sealed:
    """A turn that nobody else has."""
    sealed = await Sealer(database, VAULT.seal_keys).seal()
    assert sealed is not None
    return sealed


async def audited(
    database: Database, *, anchors: Sequence[Anchor] = (), keys: Sequence[bytes] = PUBLIC_KEYS
) -> SealReport:
    """An audit of all seals."""
    return await audit_seals(
        database,
        keys=keys,
        anchors=anchors,
        start=datetime(1970, 1, 1, tzinfo=UTC),
        end=datetime(9999, 1, 1, tzinfo=UTC),
    )


def anchors_of(*seals: Sealed) -> list[Anchor]:
    """Their signed heads, as if they had been kept elsewhere."""
    return [anchor for each in seals if each.head is not None for anchor in parse_anchors(each.head.note)]


class Attacker:
    """Somebody who can do with the database whatever its owner can, and undoes it afterwards."""

    def __init__(self, sql: asyncpg.Connection) -> None:
        self._sql = sql

    async def remember(self) -> None:
        """Keeps copies of the tables, to undo all tampering by them."""
        await self._sql.execute(
            "SET session_replication_role = replica; CREATE SCHEMA kept; "
            "ALTER TABLE hookledger.route_event DROP CONSTRAINT route_event_version_check; "
            "ALTER TABLE hookledger.replay DROP CONSTRAINT replay_state_check, DROP CONSTRAINT replay_ended_check; "
            "ALTER TABLE hookledger.api_token DROP CONSTRAINT api_token_revoked_check, "
            "DROP CONSTRAINT api_token_tenant_check; ALTER TABLE hookledger.seal DROP CONSTRAINT seal_form_check"
        )
        owner = await self._sql.fetchval("SELECT current_user")
        for table in SEALED_TABLES:
            await self._sql.execute(
                f"GRANT ALL ON ALL TABLES IN SCHEMA hookledger TO {owner}; "
                f"CREATE TABLE kept.{table} AS SELECT * FROM hookledger.{table}"
            )

    async def tamper(self, statement: str) -> int:
        """Runs it. Returns how many rows it changed."""
        return int((await self._sql.execute(statement)).split()[-1])

    async def undo(self) -> None:
        """Puts back what was remembered."""
        for table in SEALED_TABLES:
            columns = await self._sql.fetchval(
                "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = ('hookledger.' || $1)::regclass "
                "AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                table,
            )
            async with self._sql.transaction():
                await self._sql.execute(
                    f"DELETE FROM hookledger.{table}; "
                    f"INSERT INTO hookledger.{table} ({columns}) OVERRIDING SYSTEM VALUE "
                    f"SELECT {columns} FROM kept.{table}"
                )
