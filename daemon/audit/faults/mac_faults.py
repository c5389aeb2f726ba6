"""Whether what has a MAC was made by us, and is as it was made: tokens, sessions and login links, and outcomes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.credentials.keys import Vault
from eventstore.access import macs
from eventstore.access.macs import KEY_COLUMNS, CredentialTable, StoredCredential
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.progress.outcome_macs import OutcomeKey
from eventstore.queries.auditing.outcomes import SignedOutcome, outcomes
from eventstore.seals import stored, turns
from eventstore.seals.snapshots import SnapshotRow

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
        key = await vault.outcome_key(database)
    except SchemaMismatch as error:
        return [_of_check_value(str(error))]
    unsigned = None if key is None else await _Unsigned.read(database, key)
    findings: list[AuditFinding] = []
    async for page in outcomes(database, start, end, tenant=tenant):
        if key is None or unsigned is None:
            return [_of_check_value("it is gone, and with it the key of the MACs of outcomes")]
        for each in page:
            if each.mac is None:
                detail = None if unsigned.may_be(each) else "has no MAC: no daemon wrote it"
            else:
                detail = None if key.macs.is_right(each.row, each.mac) else "is not as a daemon wrote it"
            if detail is not None and ("attempt", _key_of(each)) not in known:
                findings.append(_of_outcome(each, detail))
    return findings


class _Unsigned:
    """Which outcomes may have no MAC: those from before there were any, and those that were not sealed then."""

    def __init__(self, key: OutcomeKey, *, is_sealed: bool, snap: str | None) -> None:
        self._first_seal = key.first_seal
        self._is_sealed = is_sealed
        self._shown = SnapshotRow([] if snap is None else [(key.first_seal - 1, snap)])

    @classmethod
    async def read(cls, database: Database, key: OutcomeKey) -> _Unsigned:
        last = (await stored.of_numbers(database, [key.first_seal - 1])).get(key.first_seal - 1)
        is_of_present = last is not None and last.origin == await turns.origin(database)
        is_sealed = last is not None or key.first_seal == 1
        return cls(key, is_sealed=is_sealed, snap=last.snap if last is not None and is_of_present else None)

    def may_be(self, outcome: SignedOutcome) -> bool:
        if not self._is_sealed:
            return True
        if outcome.seal is not None:
            return outcome.seal < self._first_seal
        return self._shown.first_to_show(outcome.txid) is not None


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
