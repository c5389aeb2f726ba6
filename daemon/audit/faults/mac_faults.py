"""Whether what has a MAC was made by us, and is as it was made.

Tokens, sessions and login links have one by the master key; outcomes, manual retries and replays by a key of the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from uuid import UUID

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.credentials.keys import Vault
from daemon.credentials.mac_check import MacCheck, name_of
from eventstore.access import macs
from eventstore.access.macs import KEY_COLUMNS, CredentialTable, StoredCredential
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.queries.auditing import signed_rows
from eventstore.queries.auditing.signed_rows import SignedOutcome, SignedRequest

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


async def of_log(
    database: Database,
    vault: Vault,
    start: datetime,
    end: datetime,
    *,
    tenant: str | None,
    known: Collection[tuple[str, str]],
) -> AsyncIterator[AuditFinding]:
    """The findings about the outcomes that were recorded in [start, end), but for those of which something is `known`,
    by table and key; without a tenant also about manual retries and replays. There may be one for each row. Raises
    WrongMasterKey.
    """
    try:
        check = await MacCheck.read(database, vault)
    except SchemaMismatch as error:
        yield _of_check_value(str(error))
        return
    async for page in _pages(database, start, end, tenant=tenant):
        if check is None:
            yield _of_check_value("it is gone, and with it the key of the other MACs")
            return
        for each in page:
            if (detail := check.fault(each)) is not None:
                finding = _of_row(each, f"{name_of(each)} {detail}")
                if (finding.table, finding.key) not in known:
                    yield finding


async def _pages(
    database: Database, start: datetime, end: datetime, *, tenant: str | None
) -> AsyncIterator[Sequence[SignedOutcome | SignedRequest]]:
    async for page in signed_rows.outcomes(database, start, end, tenant=tenant):
        yield page
    if tenant is None:
        async for requests in signed_rows.requests(database, start, end):
            yield requests


def _of_row(each: SignedOutcome | SignedRequest, detail: str) -> AuditFinding:
    if isinstance(each, SignedOutcome):
        row = each.row
        return AuditFinding(
            kind=FindingKind.UNEXPLAINED,
            table="attempt",
            key=f"route_id {row.route_id}, seq {row.seq}",
            detail=detail,
            event_id=row.event_id,
            tenant=row.tenant,
            route_id=row.route_id,
        )
    route_id = each.value("route_id")
    return AuditFinding(
        kind=FindingKind.UNEXPLAINED,
        table=each.table.value,
        key=f"id {each.value('id')}",
        detail=detail,
        route_id=route_id if isinstance(route_id, UUID) else None,
    )


def _of_check_value(detail: str) -> AuditFinding:
    return AuditFinding(kind=FindingKind.UNEXPLAINED, table="meta", key="key master_key_check", detail=detail)
