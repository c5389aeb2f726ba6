"""Wrong tokens, sessions and sign-in links are slowed down by the address they come from, without a query."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import ip_network

import pytest

from daemon.core.gcra import Allowance
from daemon.web.access.guesses import GUESSES, WRONG, CredentialKind, Guesses, client_address, network_of
from daemon.web.http.problems import Problem
from eventstore.access import sessions, tokens
from tests.support.web.application import app
from tests.support.web.tokens import bearer, token

ADMIN = "correct horse battery staple"
TIGHT = Allowance(burst=3, per_second=0.01)
HERE = "192.0.2.1"


def wrong(number: int) -> dict[str, str]:
    return bearer(f"hl_admin_{number:012x}_{'0' * 64}")


async def test_two_thousand_wrong_tokens_cost_a_few_queries_and_then_none(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, queries = tokens.proof, list[object]()

    async def proof(*arguments: object, **more: object) -> object:
        queries.append(arguments)
        return await really(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tokens, "proof", proof)
    async with app(empty_url, server__admin_token=ADMIN) as guarded:
        known = bearer(await token(guarded.database, "admin"))
        assert (await guarded.ask("GET", "/v1/tenants", headers=known)).status == 200
        queries.clear()
        guarded.client.app[GUESSES]._allowance = Allowance(burst=WRONG.burst, per_second=1e-6)  # however slow we are
        answers = []
        for first in range(0, 2000, 200):  # more at once would keep this process from hearing PostgreSQL for seconds
            asked = [guarded.ask("GET", "/v1/tenants", headers=wrong(first + number)) for number in range(200)]
            answers += await asyncio.gather(*asked)
        statuses = Counter(answer.status for answer in answers)
        assert statuses == {401: WRONG.burst, 429: 2000 - WRONG.burst}
        assert len(queries) == WRONG.burst
        told = next(answer for answer in answers if answer.status == 429)
        assert int(told.headers["Retry-After"]) >= 1
        assert "WWW-Authenticate" not in told.headers
        assert (await guarded.ask("GET", "/v1/tenants", headers=known)).status == 200, "who was right goes on"
        assert (await guarded.ask("GET", "/v1/tenants", headers=bearer(ADMIN))).status == 200
        assert (await guarded.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize("is_right", [True, False])
async def test_many_requests_with_one_new_token_are_one_guess(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, *, is_right: bool
) -> None:
    """As a producer makes with its connections when the daemon was started anew."""
    really, queries = tokens.proof, list[object]()
    go_on = asyncio.Event()

    async def proof(*arguments: object, **more: object) -> object:
        queries.append(arguments)
        await go_on.wait()
        return await really(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tokens, "proof", proof)
    async with app(empty_url, server__admin_token=ADMIN) as guarded:
        given = bearer(await token(guarded.database, "admin")) if is_right else wrong(1)
        arrived = 0
        verify = guarded.services.tokens.verify

        async def noted(text: str) -> object:
            nonlocal arrived
            arrived += 1
            if arrived == 90:
                go_on.set()
            return await verify(text)

        monkeypatch.setattr(guarded.services.tokens, "verify", noted)
        answers = await asyncio.gather(*[guarded.ask("GET", "/v1/tenants", headers=given) for _ in range(90)])
        assert Counter(answer.status for answer in answers) == {200 if is_right else 401: 90}
        assert len(queries) == 1
        guarded.client.app[GUESSES]._allowance = Allowance(burst=WRONG.burst, per_second=1e-6)
        for number in range(WRONG.burst):
            await guarded.ask("GET", "/v1/tenants", headers=wrong(number))
        assert (await guarded.ask("GET", "/v1/tenants", headers=wrong(99))).status == 429


@pytest.mark.parametrize("text", ["x", "hl_admin_1", ADMIN + "x"])
async def test_guesses_at_the_admin_token_count_too(empty_url: str, text: str) -> None:
    async with app(empty_url, server__admin_token=ADMIN) as guarded:
        guarded.client.app[GUESSES]._allowance = TIGHT
        found = [(await guarded.ask("GET", "/v1/tenants", headers=bearer(text))).status for _ in range(4)]
        assert found == [401, 401, 401, 429]


async def test_wrong_sessions_are_slowed_without_a_query(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app(empty_url, server__admin_token=ADMIN) as guarded:
        guarded.client.app[GUESSES]._allowance = TIGHT
        cookie = {"Cookie": "hookledger=wrong"}
        assert [(await guarded.ask("GET", "/v1/session", headers=cookie)).status for _ in range(3)] == [401] * 3
        monkeypatch.delattr(sessions, "find")
        assert (await guarded.ask("GET", "/v1/session", headers=cookie)).status == 429
        assert (await guarded.ask("GET", "/v1/session")).status == 401, "without any nothing is looked up"


async def test_a_database_that_does_not_answer_makes_no_credential_wrong(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=ADMIN) as guarded:
        guarded.client.app[GUESSES]._allowance = TIGHT
        producer = bearer(await token(guarded.database, "producer"))
        await guarded.disconnect()
        assert [(await guarded.ask("GET", "/v1/session", headers=producer)).status for _ in range(6)] == [503] * 6


def attempt(guesses: Guesses, credential: str, *, is_right: bool | None, now: float = 0, address: str = HERE) -> bool:
    """Whether the credential was looked up."""
    try:
        with guesses.guess(CredentialKind.TOKEN, address, credential, now) as guess:
            if is_right is not None:
                (guess.right if is_right else guess.wrong)()
    except Problem:
        return False
    return True


def test_other_addresses_other_kinds_and_later_times_are_not_concerned() -> None:
    guesses = Guesses(TIGHT)
    assert [attempt(guesses, f"w{n}", is_right=False) for n in range(5)] == [True] * 3 + [False] * 2
    assert attempt(guesses, "w", is_right=False, address="192.0.2.2")
    with guesses.guess(CredentialKind.LINK, HERE, "w", 0) as guess:
        guess.wrong()
    assert attempt(guesses, "w", is_right=False, now=100)
    assert not attempt(guesses, "w", is_right=False, now=100)


def test_right_ones_and_unanswered_ones_are_not_counted() -> None:
    guesses = Guesses(TIGHT)
    assert all(attempt(guesses, f"r{n}", is_right=True) for n in range(20))
    assert all(attempt(guesses, f"u{n}", is_right=None) for n in range(20))
    assert [attempt(guesses, f"w{n}", is_right=False) for n in range(4)] == [True] * 3 + [False]


def test_what_was_right_once_is_looked_up_until_it_is_wrong() -> None:
    guesses = Guesses(TIGHT)
    attempt(guesses, "known", is_right=True)
    for number in range(3):
        attempt(guesses, f"w{number}", is_right=False)
    assert attempt(guesses, "known", is_right=True)
    assert attempt(guesses, "known", is_right=False)
    assert not attempt(guesses, "known", is_right=False)


def test_many_at_once_are_counted_before_any_is_answered() -> None:
    guesses = Guesses(TIGHT)
    open_ones = [guesses.guess(CredentialKind.TOKEN, HERE, f"w{number}", 0) for number in range(3)]
    for each in open_ones:
        each.__enter__()
    assert not attempt(guesses, "w", is_right=False)
    for each in open_ones:
        each.__exit__(None, None, None)
    assert attempt(guesses, "w", is_right=False)


def test_the_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.web.access.guesses.MAX_REMEMBERED", 3)
    guesses = Guesses(TIGHT)
    for letter in "abcde":
        attempt(guesses, letter, is_right=True, address=letter)
        attempt(guesses, letter + letter, is_right=False, address=letter)
    assert len(guesses._known) == 3
    assert [address for _, address in guesses._arrivals] == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_network_of_ipv6_is_one_address(remote: str, found: str) -> None:
    assert network_of(remote) == found


PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8")))


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a client that is no proxy of ours may say anything
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", " 8.8.8.8 , 198.51.100.1 ", "198.51.100.1"),  # the client began with another one
        ("10.1.2.3", "198.51.100.1, 192.0.2.7, fd00::1", "198.51.100.1"),  # a chain of proxies
        ("fd00::1%eth0", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "10.9.9.9", "10.9.9.9"),  # a client within
        ("10.1.2.3", "198.51.100.1, unknown", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1:4711", "10.1.2.3"),
        ("10.1.2.3", ",,,", "10.1.2.3"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_address_of_a_client_is_what_trusted_proxies_say(remote: str, forwarded: str, address: str) -> None:
    assert client_address(remote, forwarded, PROXIES) == address


async def test_clients_of_a_trusted_proxy_are_counted_apart(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=ADMIN, server__trusted_proxies="127.0.0.0/8,::1/128") as guarded:
        guarded.client.app[GUESSES]._allowance = TIGHT

        async def ask(client: str, number: int) -> int:
            headers = wrong(number) | {"X-Forwarded-For": f"127.9.9.9, {client}"}
            return (await guarded.ask("GET", "/v1/tenants", headers=headers)).status

        assert [await ask("198.51.100.1", number) for number in range(4)] == [401, 401, 401, 429]
        assert await ask("198.51.100.2", 9) == 401
