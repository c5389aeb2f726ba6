"""Operational events: what operators need to know, as domain events of the tenant that `operations.tenant` names.

So any webhook of that tenant gets them, signed and retried like all others. With `operations.tell_tenants` a tenant
gets those about its own webhooks too. About the webhooks of the operators' tenant none is made, and failed deliveries
of operational events are not counted: nothing could be told of them but more of the same.

The id of an event says what it is about, so that several processes that see the same tell it once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import orjson

from daemon.config.sections import OperationsSection
from daemon.core.delivery.health import HealthState, ReceiverHealth
from daemon.core.events.event import MAX_TEXT_CHARACTERS
from daemon.core.routing.route import Route
from daemon.core.sealing.head import SignedHead
from daemon.core.sealing.seal import SealContent
from eventstore.domain_events.events import NewEvent

# The group of their types.
PREFIX = "hookledger."

WEBHOOK_DISABLED = "hookledger.webhook_disabled"
DELIVERY_FAILED = "hookledger.delivery_failed"
WEBHOOK_FAILING = "hookledger.webhook_failing"
WEBHOOK_RECOVERED = "hookledger.webhook_recovered"
SEALED = "hookledger.sealed"
DAEMON_JOINED = "hookledger.daemon_joined"
DAEMON_LOST = "hookledger.daemon_lost"
MESSAGES_REFUSED = "hookledger.messages_refused"
SOURCE_STOPPED = "hookledger.source_stopped"


# About the webhooks of a tenant, and about the installation.
OF_WEBHOOKS = frozenset((WEBHOOK_FAILING, WEBHOOK_RECOVERED, WEBHOOK_DISABLED, DELIVERY_FAILED))
OF_INSTALLATION = frozenset((SEALED, DAEMON_JOINED, DAEMON_LOST, MESSAGES_REFUSED, SOURCE_STOPPED))
OPERATIONAL = OF_WEBHOOKS | OF_INSTALLATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is told. `tenant` None: no operator."""

    tenant: str | None = None
    tells_tenants: bool = False

    def of_webhooks(self, tenant: str) -> tuple[str, ...]:
        """The tenants that are told about a webhook of `tenant`."""
        if tenant == self.tenant:
            return ()
        return (*self.of_daemons, tenant) if self.tells_tenants else self.of_daemons

    @property
    def types(self) -> frozenset[str]:
        """The operational types of which there will be events."""
        if self.tenant is not None:
            return OPERATIONAL
        return OF_WEBHOOKS if self.tells_tenants else frozenset()

    def may_get(self, tenant: str, event_type: str) -> bool:
        """False for an operational type of which that tenant never gets an event."""
        if event_type not in OPERATIONAL or tenant == self.tenant:
            return True
        return self.tells_tenants and event_type in OF_WEBHOOKS

    @property
    def of_daemons(self) -> tuple[str, ...]:
        """The tenants that are told about the daemons."""
        return () if self.tenant is None else (self.tenant,)


NOBODY = Audience()


def audience_of(section: OperationsSection) -> Audience:
    """The audience that the configuration names."""
    return Audience(tenant=section.tenant, tells_tenants=section.tell_tenants)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDeliveries:
    """Deliveries of a webhook that failed for good in a while, `count` of them, and the last one."""

    count: int
    since: datetime
    until: datetime
    last_event_id: str
    last_event_type: str
    last_status_code: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedMessages:
    """Messages of a source that became no event in a while, `count` of them, and the last one with its reason."""

    count: int
    since: datetime
    until: datetime
    topic: str
    partition: int
    offset: int
    reason: str


def webhook_disabled(audience: Audience, route: Route, *, actor: str, reason: str | None) -> tuple[NewEvent, ...]:
    """`route` is the webhook as it was before."""
    data = _webhook(route) | {"actor": actor, "reason": reason}
    return _events(audience.of_webhooks(route.tenant), WEBHOOK_DISABLED, f"{route.id}:{route.version + 1}", data)


def webhook_turned(audience: Audience, route: Route, health: ReceiverHealth) -> tuple[NewEvent, ...]:
    """The receiver of a webhook is down, or it has recovered from that. A bad time is told once, however it goes on."""
    is_down = health.state is HealthState.DOWN
    last = health.last_failure
    data = _webhook(route) | {
        "since": health.since if is_down else health.ill_since,
        "last_status_code": None if last is None else last.status_code,
        "last_error": None if last is None else last.error,
        "last_event": None if last is None else {"id": last.event_id},
    }
    which = f"{route.id}:{0 if health.ill_since is None else int(health.ill_since.timestamp() * 1000)}"
    event_type = WEBHOOK_FAILING if is_down else WEBHOOK_RECOVERED
    return _events(audience.of_webhooks(route.tenant), event_type, which, data)


def sealed(audience: Audience, seal: SealContent, head: SignedHead) -> tuple[NewEvent, ...]:
    """`head` is the signed note, to be kept where nobody can change it who can change the database."""
    data = {"seal": seal.n, "at": seal.at, "rows": seal.rows, "head": head.note}
    return _events(audience.of_daemons, SEALED, str(seal.n), data)


def delivery_failed(audience: Audience, route: Route, failed: FailedDeliveries) -> tuple[NewEvent, ...]:
    data = _webhook(route) | {
        "count": failed.count,
        "since": failed.since,
        "until": failed.until,
        "last_event": {"id": failed.last_event_id, "type": failed.last_event_type},
        "last_status_code": failed.last_status_code,
        "last_error": failed.last_error,
    }
    which = f"{route.id}:{int(failed.until.timestamp() * 1000)}"
    return _events(audience.of_webhooks(route.tenant), DELIVERY_FAILED, which, data)


def daemon_joined(audience: Audience, *, owner: str, host: str, pid: int, version: str) -> tuple[NewEvent, ...]:
    """`owner` names one incarnation of a process."""
    return _events(audience.of_daemons, DAEMON_JOINED, owner, {"host": host, "pid": pid, "version": version})


def daemon_lost(audience: Audience, *, owner: str, host: str, pid: int) -> tuple[NewEvent, ...]:
    """A process that ended without leaving properly."""
    return _events(audience.of_daemons, DAEMON_LOST, owner, {"host": host, "pid": pid})


def messages_refused(audience: Audience, source: str, refused: RefusedMessages) -> tuple[NewEvent, ...]:
    last = {"topic": refused.topic, "partition": refused.partition, "offset": refused.offset, "reason": refused.reason}
    data = {"source": source, "count": refused.count, "since": refused.since, "until": refused.until, "last": last}
    which = f"{source}:{refused.partition}:{refused.offset}:{int(refused.until.timestamp() * 1000)}"
    return _events(audience.of_daemons, MESSAGES_REFUSED, which, data)


def source_stopped(
    audience: Audience, source: str, *, topic: str, partition: int, offset: int, fault: str
) -> tuple[NewEvent, ...]:
    """A partition is not taken from `offset` on until an operator says how to go on: `fault` says why. Whichever
    process notices it.
    """
    data = {"source": source, "topic": topic, "partition": partition, "offset": offset, "fault": fault}
    return _events(audience.of_daemons, SOURCE_STOPPED, f"{source}:{topic}:{partition}:{offset}", data)


def _webhook(route: Route) -> dict[str, object]:
    return {
        "tenant": route.tenant,
        "webhook_id": str(route.id),
        "webhook_name": route.config.name,
        "target_url": route.config.target_url,
    }


def _events(tenants: tuple[str, ...], event_type: str, which: str, data: dict[str, object]) -> tuple[NewEvent, ...]:
    text = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    event_id = f"{event_type.removeprefix(PREFIX)}:{which}"
    if len(event_id) > MAX_TEXT_CHARACTERS:  # topics may have 249 characters
        event_id = f"{event_type.removeprefix(PREFIX)}:{hashlib.sha256(which.encode()).hexdigest()}"
    return tuple(NewEvent(tenant=tenant, id=event_id, type=event_type, data=text) for tenant in tenants)
