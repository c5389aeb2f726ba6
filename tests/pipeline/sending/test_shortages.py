"""A shortage of our own files costs no merchant an attempt: the delivery waits, and is tried again."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

from daemon.core.delivery.states.phases import TRANSITIONS, DeliveryPhase, DeliveryStep
from daemon.pipeline.http_client.egress_guard import EgressGuard
from daemon.pipeline.http_client.resolver import SystemResolver
from daemon.pipeline.sending import attempt
from tests.support.pipeline.process import pipeline_process
from tests.support.pipeline.sending import BODY, LINES, sender, status_or_error
from tests.support.processes.few_files import no_file_left
from tests.support.receivers import hostile
from tests.support.receivers.dns import DnsEntry, NameServer
from tests.support.receivers.hostile import OK, HostileReceiver
from tests.support.receivers.receiver import receiver
from tests.support.until import until


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[int]]:
    """A function that has every socket to a receiver refused, or no longer; returns one item for each refusal."""
    monkeypatch.setattr(attempt, "SHORTAGE_PAUSES_SECONDS", (0.01,))
    really, refused = EgressGuard._opened, list[int]()
    is_short = False

    def opened(self: EgressGuard, family: int, kind: int, protocol: int = 0) -> socket.socket:
        if is_short:
            refused.append(family)
            self.shortages += 1
            raise OSError(errno.EMFILE, "too many open files")
        return really(self, family, kind, protocol)

    def set_short(value: bool) -> list[int]:
        nonlocal is_short
        is_short = value
        return refused

    monkeypatch.setattr(EgressGuard, "_opened", opened)
    return set_short


async def test_a_delivery_without_a_file_waits_and_its_first_attempt_is_the_one_that_was_made(
    database_url: str, refuse: Callable[[bool], list[int]]
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url + "/orders")
        refused = refuse(True)
        await it.publish("order.create")
        await until(lambda: len(refused) >= 5)
        assert await it.rows("SELECT * FROM hookledger.attempt") == []
        assert there.received == []
        refuse(False)
        await there.count(1)
        await it.until_accounted()
        rows = await it.rows("SELECT number, outcome, error FROM hookledger.attempt")
        assert rows == [{"number": 1, "outcome": "delivered", "error": None}]
        assert await it.rows("SELECT * FROM hookledger.retry") == []


async def test_what_is_disabled_while_it_waits_for_a_file_is_not_sent(
    database_url: str, refuse: Callable[[bool], list[int]]
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/orders")
        refused = refuse(True)
        [event] = await it.publish("order.create")
        await until(lambda: refused)
        await it.disable(route)
        refuse(False)
        await it.until_accounted()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt")
        assert await it.outcomes() == {event: ["suppressed"]}
        assert there.received == []


async def test_a_stop_does_not_wait_for_files(database_url: str, refuse: Callable[[bool], list[int]]) -> None:
    async with receiver() as there:
        async with pipeline_process(database_url) as it:
            await it.route(there.url + "/orders")
            refused = refuse(True)
            await it.publish("order.create")
            await until(lambda: refused)
        refuse(False)
        async with pipeline_process(database_url) as successor:
            await there.count(1)
            await successor.until_accounted()
            assert list((await successor.outcomes()).values()) == [["delivered"]]


async def test_without_a_file_no_receiver_and_no_name_is_to_blame() -> None:
    """c-ares takes a socket that it cannot open for a name server that refuses."""
    entry = DnsEntry(addresses=("127.0.0.1",))
    async with (
        NameServer({"plain.shop.com": entry, "other.shop.com": entry}) as server,
        HostileReceiver(hostile.answers(OK)) as there,
        sender(resolver=SystemResolver([server.address])) as sending,
    ):
        port = there.url().rpartition(":")[2].rstrip("/")
        targets = [f"http://{host}:{port}/" for host in ("127.0.0.1", "plain.shop.com", "other.shop.com")]
        with no_file_left():
            answers = [status_or_error(await sending.send(target, LINES, BODY)) for target in targets]
        assert answers == ["shortage"] * 3
        assert [status_or_error(await sending.send(target, LINES, BODY)) for target in targets] == ["200"] * 3


def test_a_request_that_was_not_made_takes_a_delivery_back_unless_nobody_wants_it() -> None:
    found = {phase: to for (phase, step), to in TRANSITIONS.items() if step is DeliveryStep.POSTPONE}
    assert found == {
        DeliveryPhase.SENDING: DeliveryPhase.STARTED,
        DeliveryPhase.WITHDRAWN: DeliveryPhase.WITHDRAWN,
        DeliveryPhase.HANDED_OVER: DeliveryPhase.HANDED_OVER,
    }
