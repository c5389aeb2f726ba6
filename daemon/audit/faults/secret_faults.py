"""Whether the sealed secrets are those that the route log names: keys by their fingerprint, headers by their names.

Retention forgets the secrets of a deleted route, so only those that are there are checked.
"""

from __future__ import annotations

from uuid import UUID

import orjson

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import RouteStatus
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.signing import fingerprint
from daemon.credentials.keys import Vault, WrongMasterKey, secret_context
from daemon.route_state import FoldedLog
from eventstore.postgres.connect import Database
from eventstore.route_log import sealed_secrets
from eventstore.route_log.sealed_secrets import StoredSecret, Table


async def find(
    database: Database, folded: FoldedLog[RouteIndex], vault: Vault | None, *, tenant: str | None
) -> list[AuditFinding]:
    """The findings about the secrets of all routes, or of a tenant's. Raises WrongMasterKey.

    Without a vault only about secrets that are missing, or that the log does not name.
    """
    if vault is not None:
        await vault.require(database)
    findings: list[AuditFinding] = []
    for table in Table:
        named = {
            (timeline.current.id, item)
            for timeline in folded.index.timelines(tenant)
            for item in _named(timeline, table)
        }
        stored: set[tuple[UUID, str]] = set()
        async for page in sealed_secrets.pages(database, table):
            for secret in page:
                stored.add((secret.route_id, secret.item))
                if tenant in (None, secret.tenant) and (detail := await _fault(database, folded, vault, table, secret)):
                    findings.append(_finding(table, secret.tenant, secret.route_id, secret.item, detail))
        await folded.catch_up(database)
        for route_id, item in sorted(named - stored, key=str):
            timeline = folded.index.timeline(route_id)
            if timeline is not None and timeline.current.status is not RouteStatus.DELETED:
                detail = "the route log names it, and it is not there"
                findings.append(_finding(table, timeline.current.tenant, route_id, item, detail))
    return findings


async def _fault(
    database: Database, folded: FoldedLog[RouteIndex], vault: Vault | None, table: Table, secret: StoredSecret
) -> str | None:
    timeline = folded.index.timeline(secret.route_id)
    if timeline is None or secret.item not in _named(timeline, table):
        await folded.catch_up(database)  # it may be newer
        timeline = folded.index.timeline(secret.route_id)
        if timeline is None or secret.item not in _named(timeline, table):
            return "the route log does not name it"
    if vault is None:
        return None
    expected = _named(timeline, table)[secret.item]
    try:
        opened = vault.open(secret.sealed, secret_context(secret.tenant, secret.route_id, secret.item))
    except WrongMasterKey:
        return "it was not sealed for this route and this id under our master key"
    found = fingerprint(opened.decode()) if table is Table.KEYS else _names(orjson.loads(opened))
    return None if found == expected else f"it is another one than the route log says: {found} instead of {expected}"


def _named(timeline: Timeline, table: Table) -> dict[str, str]:
    """Id → what the log says of each secret: a key's fingerprint, the names of headers."""
    if table is Table.KEYS:
        return {key.id: key.fingerprint for key in timeline.all_keys()}
    return {
        config.headers_id: _names(config.header_names)
        for config in timeline.all_configs()
        if config.headers_id is not None
    }


def _names(headers: object) -> str:
    names = headers if isinstance(headers, dict | tuple) else ()
    return ", ".join(sorted(str(name) for name in names))


def _finding(table: Table, tenant: str, route_id: UUID, item: str, detail: str) -> AuditFinding:
    column = "key_id" if table is Table.KEYS else "headers_id"
    return AuditFinding(
        kind=FindingKind.UNEXPLAINED,
        table=table.value,
        key=f"route_id {route_id}, {column} {item}",
        detail=detail,
        tenant=tenant,
        route_id=route_id,
    )
