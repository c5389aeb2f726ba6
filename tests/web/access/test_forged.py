"""Somebody who can only write to the database makes no token, session or login link, and makes none of them another."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.core.drafts.login_link_draft import DashboardRole, LoginLinkDraft
from daemon.credentials.keys import Vault
from daemon.credentials.tokens import Tokens
from daemon.web.access import sessions
from eventstore.access.macs import COLUMNS, KEY_COLUMNS, CredentialMacs, CredentialTable
from tests.support.rows.credentials import authenticate
from tests.support.web.application import Answer, App
from tests.support.web.application import app as opened_door
from tests.support.web.pages import BROWSER, get
from tests.support.web.sessions import browser, opened
from tests.support.web.tokens import bearer, id_in, token

ADMIN = "correct horse battery staple"
SECRET = "known-to-the-attacker"
# By the attacker: the hash of a secret that they know.
OWN = f"sha256('{SECRET}')"
OWN_TOKEN = f"hl_tenant_0123456789ab_{'0' * 64}"

# For each table what a column may be changed to. Each is another thing than was made: who, as what, until when, where to.
CHANGES: Mapping[str, Mapping[str, str]] = {
    "api_token": {
        "id": "'0123456789ab', hash = sha256('" + OWN_TOKEN + "')",
        "kind": "'admin', tenant = NULL",
        "tenant": "'globex'",
        "name": "'of somebody else'",
        "hash": "sha256(('hl_tenant_' || id || '_' || repeat('0', 64))::bytea)",
        "created_at": "created_at + interval '1 microsecond'",
        "created_by": "'cli:root'",
        "expires_at": "expires_at + interval '1 microsecond'",
        "mac": "set_byte(mac, 31, get_byte(mac, 31) # 1)",
    },
    "login_link": {
        "hash": OWN,
        "tenant": "NULL",
        "created_by": "'cli:root'",
        "expires_at": "expires_at + interval '1 microsecond'",
        "actor": "'cli:root'",
        "role": "'manage'",
        "return_url": "'https://evil.example.com/'",
        "path": "'/t/globex/webhooks'",
        "mac": "NULL",
    },
    "session": {
        "hash": OWN,
        "tenant": "NULL",
        "created_at": "created_at + interval '1 microsecond'",
        "actor": "'cli:root'",
        "role": "'manage'",
        "mac": "sha256(mac)",
    },
}
# What changes while it is used, and what seals are found by.
FREE = {
    "api_token": {"revoked_at", "last_used_at", "txid", "seal", "revoked_txid", "revoked_seal"},
    "login_link": set[str](),
    "session": {"last_seen_at"},
}
TIMES = ("created_at", "expires_at")
KINDS = [(table, column) for table, columns in CHANGES.items() for column in columns]


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(empty_url: str) -> AsyncIterator[App]:
    """A daemon with an admin token."""
    async with opened_door(empty_url, server__admin_token=ADMIN) as app:
        yield app


async def link(app: App) -> str:
    """The secret of a new login link that may only look."""
    draft = LoginLinkDraft(actor="jane", role=DashboardRole.VIEW, return_url="https://shop.example.com/")
    made = await sessions.new_link(
        app.database,
        app.services.config.server,
        draft,
        tenant="acme",
        created_by="test",
        macs=app.services.keychain.macs,
    )
    return urlsplit(made.url).path.rpartition("/")[2]


async def whoami(app: App, headers: Mapping[str, str]) -> Answer:
    return await app.ask("GET", "/v1/session", headers=headers)


async def shown(app: App, kind: str, secret: str) -> Answer:
    """The answer to somebody who shows that secret as a token, a session or a link."""
    if kind == "api_token":
        return await whoami(app, bearer(secret))
    if kind == "session":
        return await whoami(app, {"Cookie": f"hookledger={secret}"})
    return await app.ask("POST", f"/login/{secret}?instead", headers=BROWSER, allow_redirects=False)


async def made(app: App, kind: str) -> str:
    """The secret of a new one of tenant acme."""
    if kind == "api_token":
        return await token(app.database, "tenant:acme", name="shop", expires="30d")
    if kind == "session":
        headers = await opened(app, f"/login/{await link(app)}")
        return headers["Cookie"].partition("=")[2]
    return await link(app)


def forged(app: App, kind: str) -> float:
    """How many were counted."""
    value = app.services.metrics.registry.get_sample_value("hookledger_forged_credentials_total", {"kind": kind})
    assert value is not None
    return value


async def columns(app: App, table: str) -> set[str]:
    rows = await app.rows(
        "SELECT attname FROM pg_attribute WHERE attrelid = ('hookledger.' || $1)::regclass AND attnum > 0", table
    )
    return {row["attname"] for row in rows}


async def test_each_column_is_changed_or_may_change(guarded: App) -> None:
    for table, changes in CHANGES.items():
        assert await columns(guarded, table) == {*changes, *FREE[table]}


@pytest.mark.parametrize("kind", CHANGES)
async def test_one_that_was_made_is_taken(guarded: App, kind: str) -> None:
    answer = await shown(guarded, kind, await made(guarded, kind))
    assert answer.status == (303 if kind == "login_link" else 200)
    assert forged(guarded, kind) == 0


@pytest.mark.parametrize(("kind", "column"), KINDS)
async def test_one_that_was_changed_is_refused_as_if_it_were_not_there(guarded: App, kind: str, column: str) -> None:
    secret = await made(guarded, kind)
    (changed,) = await guarded.rows(f"UPDATE hookledger.{kind} SET {column} = {CHANGES[kind][column]} RETURNING *")
    if column in ("hash", "id"):
        secret = SECRET if kind != "api_token" else f"hl_tenant_{changed['id']}_{'0' * 64}"
    unknown = await shown(guarded, kind, secret[:-1] + "!" if kind != "api_token" else OWN_TOKEN[:-1] + "1")
    with capture_logs() as logs:
        refused = await shown(guarded, kind, secret)
    assert refused.status == (410 if kind == "login_link" else 401)
    assert (refused.status, refused.json, refused.headers.get("Set-Cookie")) == (unknown.status, unknown.json, None)
    assert forged(guarded, kind) == 1
    (line,) = [each for each in logs if each["event"] == "credential.forged"]
    assert (line["table"], line["log_level"]) == (kind, "warning")
    assert secret not in str(logs)


INSERTED = {
    "api_token": (
        "INSERT INTO hookledger.api_token (id, kind, name, hash, created_by, mac) "
        f"SELECT '0123456789ab', 'admin', '', sha256('{OWN_TOKEN}'), 'cli', {{mac}}"
    ),
    "login_link": (
        "INSERT INTO hookledger.login_link (hash, created_by, expires_at, mac) "
        f"SELECT {OWN}, 'cli', now() + interval '1 h', {{mac}}"
    ),
    "session": f"INSERT INTO hookledger.session (hash, mac) SELECT {OWN}, {{mac}}",
}
MACS = {
    "none": "NULL::bytea",
    "a short one": "'\\x00'::bytea",
    "that of a token": "(SELECT mac FROM hookledger.api_token LIMIT 1)",
    "that of a link": "(SELECT mac FROM hookledger.login_link LIMIT 1)",
    "that of a session": "(SELECT mac FROM hookledger.session LIMIT 1)",
}


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("kind", INSERTED)
async def test_one_that_was_inserted_lets_nobody_in(guarded: App, kind: str, mac: str) -> None:
    for each in CHANGES:
        await made(guarded, each)
    await guarded.rows(INSERTED[kind].format(mac=MACS[mac]))
    refused = await shown(guarded, kind, OWN_TOKEN if kind == "api_token" else SECRET)
    assert refused.status == (410 if kind == "login_link" else 401)
    assert forged(guarded, kind) == 1
    assert len(await guarded.rows("SELECT FROM hookledger.session")) == (2 if kind == "session" else 1)


async def test_a_forged_link_is_not_looked_at_and_ends_no_session(guarded: App) -> None:
    running = await browser(guarded, "acme")
    await guarded.rows(INSERTED["login_link"].format(mac="NULL"))
    looked = await guarded.ask("GET", f"/login/{SECRET}", headers=running)
    assert looked.status == 410
    assert "used before" in looked.text
    refused = await guarded.ask("POST", f"/login/{SECRET}?instead", headers=running, allow_redirects=False)
    assert refused.status == 410
    assert (await whoami(guarded, running)).json["tenant"] == "acme"


async def test_a_forged_session_of_the_administrator_commands_nothing(guarded: App) -> None:
    await guarded.rows(INSERTED["session"].format(mac="NULL"))
    cookie = {"Cookie": f"hookledger={SECRET}"}
    page = await guarded.ask("GET", "/operator", headers=BROWSER | cookie, allow_redirects=False)
    assert page.status == 401
    body = {"name": "n", "target_url": "https://shop.example.com/", "event_types": ["*"]}
    for path, sent in (("/v1/tenants/acme/routes", body), ("/v1/tokens", {"scope": "admin"})):
        answer = await guarded.ask("POST", path, sent, headers=BROWSER | cookie)
        assert answer.status == 401
    assert await guarded.log() == []
    assert await guarded.rows("SELECT FROM hookledger.api_token") == []


@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
@pytest.mark.parametrize(("kind", "column"), [each for each in KINDS if each[1] in TIMES])
async def test_a_time_that_python_does_not_have_is_refused_as_any(
    guarded: App, kind: str, column: str, time: str
) -> None:
    secret = await made(guarded, kind)
    await guarded.rows(f"UPDATE hookledger.{kind} SET {column} = '{time}'")
    assert (await shown(guarded, kind, secret)).status == (410 if kind == "login_link" else 401)


async def test_lists_say_which_token_is_forged(guarded: App) -> None:
    for name in ("good", "changed", "dead"):
        await token(guarded.database, "auditor", name=name)
    await guarded.rows("UPDATE hookledger.api_token SET tenant = 'acme' WHERE name = 'changed'")
    await guarded.rows(
        "UPDATE hookledger.api_token SET kind = 'admin', revoked_at = now(), revoked_txid = 1 WHERE name = 'dead'"
    )
    await guarded.rows(INSERTED["api_token"].format(mac="NULL"))
    listed = await guarded.ask("GET", "/v1/tokens", headers=bearer(ADMIN))
    states = {each["name"]: each["status"] for each in listed.json["items"]}
    assert states == {"good": "active", "changed": "forged", "dead": "revoked", "": "forged"}
    in_rows = await get(guarded, "/operator/tokens", headers=bearer(ADMIN) | BROWSER)
    assert in_rows.text.count("not made here, or changed since") == 2
    asked = await get(guarded, "/operator/tokens/0123456789ab/revoke", headers=bearer(ADMIN) | BROWSER)
    assert "somebody has written to the database" in asked.text
    revoked = await guarded.ask("DELETE", "/v1/tokens/0123456789ab", headers=bearer(ADMIN))
    assert revoked.status == 204


# The table is a view that shows its caller a row of somebody else: each mention of a column has another value.
VIEW = """
CREATE SEQUENCE hookledger.mentions;
CREATE FUNCTION hookledger.mentioned(first anyelement, later anyelement) RETURNS anyelement LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN nextval('hookledger.mentions') = 1 THEN first ELSE later END;
END $$;
ALTER TABLE hookledger.{table} RENAME TO own_{table};
CREATE VIEW hookledger.{table} AS SELECT {columns} FROM hookledger.own_{table};
"""
SHOWN = "hookledger.mentioned({first}, {column}) AS {column}"


@pytest.mark.parametrize(
    ("kind", "column", "first"),
    [
        ("session", "hash", OWN),
        ("login_link", "hash", OWN),
        ("api_token", "id", "'0123456789ab'::text"),
        ("session", "created_at", "now()"),
        ("login_link", "expires_at", "now() + interval '1 min'"),
    ],
)
async def test_a_view_in_place_of_the_table_shows_nobody_what_is_not_theirs(
    database_url: str, kind: str, column: str, first: str
) -> None:
    async with opened_door(database_url, server__admin_token=ADMIN) as app:
        secret = await made(app, kind)
        if column in TIMES:
            await app.rows(f"UPDATE hookledger.{kind} SET {column} = {column} - interval '25 h'")
            async with app.database.connection() as connection:
                await authenticate(connection)
        else:
            secret = OWN_TOKEN if kind == "api_token" else SECRET
        mentions = [
            SHOWN.format(first=first, column=each) if each == column else each for each in await columns(app, kind)
        ]
        async with app.database.connection() as connection:
            await connection.execute(VIEW.format(table=kind, columns=", ".join(mentions)))
        assert (await shown(app, kind, secret)).status == (410 if kind == "login_link" else 401)
        assert await app.rows("SELECT last_value > 1 AS so FROM hookledger.mentions") == [{"so": True}]


async def test_a_token_is_revoked_and_noted_as_used_by_sql(guarded: App) -> None:
    text = await made(guarded, "api_token")
    await guarded.rows("UPDATE hookledger.api_token SET last_used_at = now() - interval '1 h'")
    assert (await whoami(guarded, bearer(text))).status == 200
    guarded.services.tokens.forget(id_in(text))
    await guarded.rows("UPDATE hookledger.api_token SET revoked_at = now(), revoked_txid = 1")
    refused = await whoami(guarded, bearer(text))
    assert (refused.status, refused.json["detail"]) == (401, "this token was revoked")


async def test_a_daemon_with_another_master_key_takes_nothing_of_this_one(guarded: App) -> None:
    other = Vault([b"o" * 32])
    text = await made(guarded, "api_token")
    rows = {table: await guarded.rows(f"SELECT {COLUMNS[table]} FROM hookledger.{table}") for table in CredentialTable}
    assert all(guarded.services.keychain.macs.are_right(table, row) for table, found in rows.items() for row in found)
    assert not any(other.macs.are_right(table, row) for table, found in rows.items() for row in found)
    both = Tokens(guarded.database, macs=Vault([b"o" * 32, b"k" * 32]).macs)
    assert (await both.verify(text)) == (await guarded.services.tokens.verify(text))


def test_columns_do_not_run_into_each_other() -> None:
    macs = CredentialMacs([b"k" * 32])
    row: dict[str, object] = {"hash": b"h", "tenant": "a", "created_at_us": "1", "actor": "bc", "role": "d"}
    others = [
        row | {"tenant": "ab", "actor": "c"},
        row | {"actor": "b", "role": "cd"},
        row | {"tenant": None},
        row | {"tenant": ""},
        row | {"tenant": "~"},
    ]
    assert len({macs.of(CredentialTable.SESSION, each) for each in (row, *others)}) == 1 + len(others)
    assert set(KEY_COLUMNS) == set(CredentialTable)


def test_the_mac_is_the_one_that_another_program_computes() -> None:
    """So that what daemons accepted once they accept after an upgrade."""
    row = {"hash": b"\x01\xff", "tenant": None, "created_at_us": "1795463815000001", "actor": "jané", "role": "view"}
    text = "7:session4:01ff~16:17954638150000015:jané4:view".encode()
    expected = hmac.new(b"k" * 32, text, hashlib.sha256).digest()
    assert CredentialMacs([b"k" * 32]).of(CredentialTable.SESSION, row) == expected
    assert Vault([b"k" * 32]).macs.of(CredentialTable.SESSION, row).hex() == (
        "14c8c8f57ff382f1a5d96091c43f8d0e490785682a86367c3c3e60b45a3360ca"
    )
