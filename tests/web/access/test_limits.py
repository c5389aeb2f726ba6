"""Rate limits by tenant."""

from __future__ import annotations

import pytest

from daemon.core.gcra import Allowance
from daemon.web.access.limits import ALLOWANCES, TENANT_LIMITS, TenantLimits
from daemon.web.http.endpoints import RateLimit, declared
from daemon.web.http.problems import Problem
from tests.support.web.application import App, path

TIGHT = dict.fromkeys(RateLimit, Allowance(burst=2, per_second=0.01))

# Literal on purpose: an endpoint that loses its limit must fail a test.
LIMITED = {
    "GET /v1/tenants/{tenant}/routes/{route}/key": "reveal",
    "POST /v1/tenants/{tenant}/routes/{route}/test": "test",
    "POST /v1/tenants/{tenant}/preview": "preview",
    "POST /v1/tenants/{tenant}/routes/{route}/replay": "replay",
    "POST /v1/tenants/{tenant}/retries": "replay",
    "GET /t/{tenant}/webhooks/{route}/key": "reveal",
    "POST /t/{tenant}/webhooks/{route}/replay": "replay",
    "POST /t/{tenant}/deliveries/retry": "replay",
}


async def test_what_costs_much_is_limited(app: App) -> None:
    found = {}
    for route in app.client.app.router.routes():
        declaration = declared(route.handler)
        if declaration is not None and declaration.limit is not None and route.method != "HEAD":
            found[f"{route.method} {route.resource and route.resource.canonical}"] = declaration.limit.value
    assert found == LIMITED


async def test_too_many_are_told_when_to_come_back(app: App) -> None:
    application = app.client.app
    application[TENANT_LIMITS]._allowances = TIGHT
    mine, theirs = await app.route("acme"), await app.route("globex")

    answers = [await app.ask("GET", path(mine, "/key")) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert 0 < int(answers[2].headers["Retry-After"]) <= 100
    assert "verification_key" not in answers[2].text
    assert (await app.ask("GET", path(theirs, "/key"))).status == 200


def test_one_limit_leaves_the_others_and_time_lifts_it() -> None:
    limits = TenantLimits(TIGHT)
    for _ in range(2):
        limits.take(RateLimit.REVEAL, "acme", 0)
    with pytest.raises(Problem) as refusal:
        limits.take(RateLimit.REVEAL, "acme", 0.5)
    assert refusal.value.headers == {"Retry-After": "100"}
    limits.take(RateLimit.TEST, "acme", 0.5)
    limits.take(RateLimit.REVEAL, "globex", 0.5)
    limits.take(RateLimit.REVEAL, "acme", 100)


def test_what_was_refused_is_not_counted() -> None:
    limits = TenantLimits(TIGHT)
    for _ in range(50):
        try:
            limits.take(RateLimit.REVEAL, "acme", 0)
        except Problem:
            continue
    limits.take(RateLimit.REVEAL, "acme", 100)


def test_the_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.web.access.limits.MAX_COUNTS", 3)
    limits = TenantLimits(TIGHT)
    for tenant in "abcabcd":
        limits.take(RateLimit.REVEAL, tenant, 0)
    assert list(limits._arrivals) == [(RateLimit.REVEAL, tenant) for tenant in "bcd"]


def test_every_limit_has_an_allowance() -> None:
    assert set(ALLOWANCES) == set(RateLimit)
