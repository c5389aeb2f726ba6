"""Hosts of `egress.allow_hosts`: they may lead into a private network, and nobody else may follow them there."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from daemon.core.webhook.egress import EgressPolicy
from tests.support.pipeline.sending import BODY, LINES, record_connects, sender, status_or_error
from tests.support.receivers.dns import FakeResolver

INSIDE, LOOPBACK = "10.255.255.1", "127.0.0.1"
NAMES = {
    "receiver": [[INSIDE]],
    "x.svc.cluster.local": [[INSIDE]],
    "evil.example.com": [[INSIDE]],
    "here": [[LOOPBACK]],
}


@pytest.mark.parametrize("target", ["http://receiver:8080/", "http://x.svc.cluster.local/hooks"])
async def test_a_listed_host_is_connected_to_at_its_private_address(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connects = record_connects(monkeypatch)
    policy = EgressPolicy(allow_http=True, ports=None, allow_hosts=("receiver", "*.svc.cluster.local"))
    denials: list[str] = []
    async with sender(policy, denials, resolver=FakeResolver(**NAMES)) as sending:
        answer = await sending.send(target, LINES, BODY)
        assert (status_or_error(answer), connects, denials) == ("connect_refused", [INSIDE], [])
        connects.clear()
        for other in ("http://evil.example.com/", f"http://{INSIDE}/"):
            assert status_or_error(await sending.send(other, LINES, BODY)) == "egress_denied"
    assert (connects, denials) == ([], ["private", "private"])


async def test_a_listed_host_leads_neither_to_loopback_nor_into_a_denied_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connects = record_connects(monkeypatch)
    policy = EgressPolicy(
        allow_http=True, ports=None, allow_hosts=("receiver", "here"), deny_nets=(ip_network("10.0.0.0/8"),)
    )
    denials: list[str] = []
    async with sender(policy, denials, resolver=FakeResolver(**NAMES)) as sending:
        for target in ("http://receiver/", "http://here/"):
            assert status_or_error(await sending.send(target, LINES, BODY)) == "egress_denied"
    assert (connects, denials) == ([], ["deny_nets", "loopback"])


async def test_a_name_of_a_local_network_is_judged_by_its_address_where_a_network_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connects = record_connects(monkeypatch)
    policy = EgressPolicy(allow_http=True, ports=None, allow_nets=(ip_network("10.0.0.0/8"),))
    denials: list[str] = []
    async with sender(policy, denials, resolver=FakeResolver(**NAMES)) as sending:
        assert status_or_error(await sending.send("http://receiver:8080/", LINES, BODY)) == "connect_refused"
        assert status_or_error(await sending.send("http://here/", LINES, BODY)) == "egress_denied"
    assert (connects, denials) == ([INSIDE], ["loopback"])
