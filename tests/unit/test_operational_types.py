"""The operational types in the catalogue: what describes them, and who may get them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson
import pytest

from daemon import operations
from daemon.core.events.catalogue import TypeDraft, check
from daemon.operations import Audience, FailedDeliveries, RefusedMessages
from tests.support.values.builders import NOON
from tests.support.values.lifecycles import life

OPS = Audience(tenant="ops")
TENANTS = Audience(tells_tenants=True)

OF_WEBHOOKS = {
    "hookledger.webhook_failing",
    "hookledger.webhook_recovered",
    "hookledger.webhook_disabled",
    "hookledger.delivery_failed",
}
OF_INSTALLATION = {
    "hookledger.sealed",
    "hookledger.daemon_joined",
    "hookledger.daemon_lost",
    "hookledger.messages_refused",
    "hookledger.source_stopped",
}


def described() -> dict[str, dict[str, Any]]:
    found = orjson.loads(files("daemon").joinpath("data", "operational_types.json").read_bytes())
    return {each["name"]: each for each in found}


def test_each_has_an_entry_that_the_catalogue_takes() -> None:
    assert set(described()) == OF_WEBHOOKS | OF_INSTALLATION == OPS.types
    assert check([TypeDraft(**each) for each in described().values()]) == ()
    assert all(each["description"] for each in described().values())


def test_each_example_has_the_fields_of_a_real_event() -> None:
    failed = FailedDeliveries(
        count=1, since=NOON, until=NOON, last_event_id="e", last_event_type="a.b", last_status_code=500, last_error=None
    )
    refused = RefusedMessages(count=1, since=NOON, until=NOON, topic="t", partition=0, offset=1, reason="r")
    made = [
        *operations.webhook_disabled(OPS, life(), actor="a", reason=None),
        *operations.delivery_failed(OPS, life(), failed),
        *operations.daemon_joined(OPS, owner="o", host="h", pid=1, version="v"),
        *operations.daemon_lost(OPS, owner="o", host="h", pid=1),
        *operations.messages_refused(OPS, "shop", refused),
        *operations.source_stopped(OPS, "shop", topic="t", partition=0, offset=1, fault="f"),
    ]
    for event in made:
        assert orjson.loads(event.data).keys() == described()[event.type]["example"]["data"].keys(), event.type


@pytest.mark.parametrize(
    ("audience", "tenant", "expected"),
    [
        (Audience(), "acme", set()),
        (OPS, "acme", set()),
        (OPS, "ops", OF_WEBHOOKS | OF_INSTALLATION),
        (TENANTS, "acme", OF_WEBHOOKS),
        (Audience(tenant="ops", tells_tenants=True), "acme", OF_WEBHOOKS),
    ],
)
def test_a_tenant_is_offered_what_it_may_get(audience: Audience, tenant: str, expected: set[str]) -> None:
    assert {name for name in described() if audience.may_get(tenant, name)} == expected
    assert audience.may_get(tenant, "order.create")
