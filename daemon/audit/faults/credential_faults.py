"""Whether the tokens, sessions and login links that there are were made by us, and are as they were made."""

from __future__ import annotations

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.credentials.keys import Vault
from eventstore.access import macs
from eventstore.access.macs import KEY_COLUMNS, CredentialTable, StoredCredential
from eventstore.postgres.connect import Database

_UNMADE = "it has no MAC: no daemon and no command of ours made it, and none believes it"
_CHANGED = "it is not as anybody with our master key made it, and no daemon believes it"


async def find(database: Database, vault: Vault | None, *, tenant: str | None) -> list[AuditFinding]:
    """The findings about all of them, or about those of a tenant. Without a vault only about those without a MAC."""
    findings: list[AuditFinding] = []
    for table in CredentialTable:
        async for page in macs.pages(database, table):
            findings += [
                _finding(table, each, detail)
                for each in page
                if tenant in (None, each.tenant) and (detail := _fault(vault, table, each)) is not None
            ]
    return findings


def _fault(vault: Vault | None, table: CredentialTable, stored: StoredCredential) -> str | None:
    if stored.row["mac"] is None:
        return _UNMADE
    return None if vault is None or vault.macs.are_right(table, stored.row) else _CHANGED


def _finding(table: CredentialTable, stored: StoredCredential, detail: str) -> AuditFinding:
    return AuditFinding(
        kind=FindingKind.UNEXPLAINED,
        table=table.value,
        key=f"{KEY_COLUMNS[table]} {stored.shown}",
        detail=detail,
        tenant=stored.tenant,
    )
