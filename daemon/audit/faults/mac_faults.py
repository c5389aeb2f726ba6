"""Whether what has a MAC was made by us, and is as it was made: tokens, sessions and login links, and outcomes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.credentials.keys import Vault
from daemon.credentials.outcome_check import OutcomeCheck
from eventstore.access import macs
from eventstore.access.macs import KEY_COLUMNS, CredentialTable, StoredCredential
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.queries.auditing.outcomes import SignedOutcome, outcomes

_UNMADE = "it has no MAC: no daemon and no command of ours made it, and none believes it"
_CHANGED = "it is not as anybody with our master key made it, and no daemon believes it"


async def of_credentials(database: Database, vault: Vault | None, *, tenant: str | None) -> list[AuditFinding]:
    """The findings about all tokens, sessions and login links, or about those of a tenant. Without a vault only about
    those without a MAC.
    """
    findings: list[AuditFinding] = []
    for table in CredentialTable:
        async for page in macs.pages(database, table):
            findings += [
                _of_credential(table, each, detail)
                for each in page
                if tenant in (None, each.tenant) and (detail := _credential_fault(vault, table, each)) is not None
            ]
    return findings


def _credential_fault(vault: Vault | None, table: CredentialTable, stored: StoredCredential) -> str | None:
    if stored.row["mac"] is None:
        return _UNMADE
    return None if vault is None or vault.macs.are_right(table, stored.row) else _CHANGED


def _of_credential(table: CredentialTable, stored: StoredCredential, detail: str) -> AuditFinding:
    return AuditFinding(
        kind=FindingKind.UNEXPLAINED,
        table=table.value,
        key=f"{KEY_COLUMNS[table]} {stored.shown}",
        detail=detail,
        tenant=stored.tenant,
    )


async def of_outcomes(
    database: Database,
    vault: Vault,
    start: datetime,
    end: datetime,
    *,
    tenant: str | None,
    known: Collection[tuple[str, str]],
) -> list[AuditFinding]:
    """The findings about the outcomes that were recorded in [start, end), but for those of which something is `known`,
    by table and key. Raises WrongMasterKey.
    """
    try:
        check = await OutcomeCheck.read(database, vault)
    except SchemaMismatch as error:
        return [_of_check_value(str(error))]
    findings: list[AuditFinding] = []
    async for page in outcomes(database, start, end, tenant=tenant):
        if check is None:
            return [_of_check_value("it is gone, and with it the key of the MACs of outcomes")]
        for each in page:
            detail = check.fault(each)
            if detail is not None and ("attempt", _key_of(each)) not in known:
                findings.append(_of_outcome(each, detail))
    return findings


def _key_of(outcome: SignedOutcome) -> str:
    return f"route_id {outcome.row.route_id}, seq {outcome.row.seq}"


def _of_outcome(outcome: SignedOutcome, detail: str) -> AuditFinding:
    row = outcome.row
    return AuditFinding(
        kind=FindingKind.UNEXPLAINED,
        table="attempt",
        key=_key_of(outcome),
        detail=f"outcome {row.number} ({row.outcome}) {detail}",
        event_id=row.event_id,
        tenant=row.tenant,
        route_id=row.route_id,
    )


def _of_check_value(detail: str) -> AuditFinding:
    return AuditFinding(kind=FindingKind.UNEXPLAINED, table="meta", key="key master_key_check", detail=detail)
