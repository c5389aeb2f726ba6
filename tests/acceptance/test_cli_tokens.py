"""`hookledger token` and `login-link`: created at a terminal, accepted by a running daemon."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from pathlib import Path

import asyncpg
import pytest

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import running
from tests.support.until import until

ADMIN = "correct horse battery staple"


def status(url: str, token: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_token_is_printed_once_and_listed_without_its_secret(hookledger: CommandLine) -> None:
    assert "hookledger token create" in hookledger("token", "list").out
    made = hookledger(
        "token", "create", "--scope", "producer", "--tenant", "acme", "--name", "Shop", "--expires", "30d", "--json"
    )
    assert made.json["token"].startswith(f"hl_producer_{made.json['id']}_")
    assert made.json["scope"] == "producer:acme"
    assert made.json["created_by"].startswith("cli:")
    listed = hookledger("token", "list", "--json")
    assert listed.json == [{key: value for key, value in made.json.items() if key != "token"}]
    assert made.json["token"] not in listed.out + hookledger("token", "list").out


def test_a_token_is_shown_to_people_with_what_it_is_for(hookledger: CommandLine) -> None:
    made = hookledger("token", "create", "--scope", "tenant:acme")
    lines = dict(line.split(maxsplit=1) for line in made.out.splitlines())
    assert lines["scope"] == "tenant:acme"
    assert lines["token"].startswith("hl_tenant_")
    assert "not shown again" in made.err
    head, row = hookledger("token", "list").out.splitlines()
    assert head.split()[:4] == ["id", "scope", "name", "status"]
    assert row.split()[:2] == [lines["id"], "tenant:acme"]


async def test_a_token_that_was_written_into_the_database_is_listed_as_forged(
    hookledger: CommandLine, database_url: str, tmp_path: Path
) -> None:
    made = hookledger("token", "create", "--scope", "auditor", "--json").json
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE hookledger.api_token SET kind = 'admin'")
    await connection.close()
    for name in ("nothing", "another"):
        (tmp_path / name).mkdir()
    without_key = CommandLine(tmp_path / "nothing", database_url)
    other = base64.b64encode(b"o" * 32).decode()
    with_another = CommandLine(tmp_path / "another", database_url, HOOKLEDGER_SIGNING__MASTER_KEY=other)
    for command, status in ((hookledger, "forged"), (without_key, "active"), (with_another, "active")):
        (listed,) = command("token", "list", "--json").json
        assert (listed["id"], listed["scope"], listed["status"]) == (made["id"], "admin", status)
    assert without_key("token", "revoke", made["id"], "--json").json["status"] == "revoked"
    assert hookledger("token", "list", "--json").json[0]["status"] == "revoked"


def test_a_token_is_revoked_by_its_id_or_its_text(hookledger: CommandLine) -> None:
    for name in ("id", "token"):
        made = hookledger("token", "create", "--scope", "admin", "--json").json
        assert hookledger("token", "revoke", made[name], "--json").json["status"] == "revoked"
        assert hookledger("token", "revoke", made["id"]).code == 0
    unknown = hookledger("token", "revoke", "x\x1b[31m", code=1)
    assert "there is no token" in unknown.err
    assert "\x1b" not in unknown.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scope", "prodcer"), "did you mean producer"),
        (("--scope", "tenant"), "tenant: is missing"),
        (("--scope", "admin", "--tenant", "acme"), "must be left out"),
        (("--scope", "admin", "--expires", "soon"), "a span like 30d"),
        ((), "--scope"),
    ],
)
def test_a_mistake_is_named_and_nothing_made(
    without_database: CommandLine, options: tuple[str, ...], message: str
) -> None:
    assert message in without_database("token", "create", *options, code=2).err


def test_a_login_link_leads_to_where_the_daemon_is(hookledger: CommandLine) -> None:
    hookledger.environment["HOOKLEDGER_SERVER__PUBLIC_URL"] = "https://hooks.example.com"
    made = hookledger("login-link", "--tenant", "acme")
    assert made.out.startswith("https://hooks.example.com/login/")
    assert len(made.out.splitlines()) == 1
    assert "60 s" in made.err
    assert "press the button" in made.err
    document = hookledger("login-link", "--json").json
    assert document["tenant"] is None
    assert document["url"] != made.out.strip()


def test_a_login_link_names_who_comes_in_and_what_they_may_do(hookledger: CommandLine) -> None:
    made = hookledger("login-link", "--tenant", "acme", "--actor", "jane", "--role", "view", "--json").json
    assert (made["tenant"], made["role"]) == ("acme", "view")
    assert "role: must be manage or view" in hookledger("login-link", "--role", "owner", code=2).err
    assert "actor: is a name that Hookledger uses itself" in hookledger("login-link", "--actor", "admin", code=2).err


def test_a_login_link_needs_a_tenant_that_can_be_and_an_address(hookledger: CommandLine) -> None:
    assert "tenant: must be" in hookledger("login-link", "--tenant", "a b", code=2).err
    hookledger.environment["HOOKLEDGER_SERVER__LISTEN"] = "127.0.0.1:0"
    refused = hookledger("login-link", code=1)
    assert "does not say where the daemon listens" in refused.err
    assert "server.public_url" in refused.err


async def test_a_daemon_that_listens_where_the_configuration_does_not_say_is_found_all_the_same(
    hookledger: CommandLine,
) -> None:
    async with running(hookledger) as daemon:
        where = ("--listen", daemon.url.removeprefix("http://"))
        link = hookledger("login-link", "--tenant", "acme", *where).out.strip()
        assert link.startswith(f"{daemon.url}/login/")
        assert status(link, "") == 200
        assert hookledger("healthcheck", *where).out == f"the daemon at {where[1]} is alive\n"


async def test_what_is_made_at_the_terminal_opens_the_daemon_until_it_is_revoked(hookledger: CommandLine) -> None:
    hookledger.environment["HOOKLEDGER_SERVER__ADMIN_TOKEN"] = ADMIN
    made = hookledger("token", "create", "--scope", "auditor", "--json").json
    async with running(hookledger) as daemon:
        url = f"{daemon.url}/v1/tenants"
        assert (status(url, made["token"]), status(url, ADMIN), status(url, "x")) == (200, 200, 401)
        hookledger("token", "revoke", made["id"])
        # Two seconds at most, as tests/postgres/access/test_tokens.py says.
        await until(lambda: status(url, made["token"]) == 401)
        await until(lambda: made["id"] in daemon.log.read_text())  # the log is written by a thread of its own
        log = daemon.log.read_text()
    assert made["token"] not in log
    assert ADMIN not in log
    assert made["id"] in log
