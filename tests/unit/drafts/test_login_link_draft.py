"""What a login link may say: who comes in, for how long, where it leads to, and where it leads back to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from daemon.core.drafts.login_link_draft import DashboardRole, LoginLinkDraft, check, return_url_problem


def problems(**values: object) -> dict[str, str]:
    found = check("acme", **{"actor": "jane"} | values)  # type: ignore[arg-type]
    assert not isinstance(found, LoginLinkDraft), values
    return {each.field: each.message for each in found}


def test_a_link_that_says_nothing_more_manages_for_a_minute() -> None:
    assert check("acme", actor="jane") == LoginLinkDraft(
        actor="jane", role=DashboardRole.MANAGE, life=timedelta(seconds=60), return_url=None, path=None
    )


@pytest.mark.parametrize(
    "actor", ["jane@shop.example.com", "Jürgen Weiß (Support)", "客服 7", "x" * 128, "administrator"]
)
def test_an_actor_is_a_printable_text(actor: str) -> None:
    assert isinstance(check("acme", actor=actor), LoginLinkDraft)


@pytest.mark.parametrize(
    ("actor", "says"),
    [
        ("", "must not be empty"),
        (" \u200d", "must not be empty"),
        ("x" * 129, "has 129 characters, 128 are allowed"),
        ("jane\n", "must not contain control characters"),
        ("\u202eenaj", "reorder"),
        ("admin", "that Hookledger uses itself"),
        (" System ", "that Hookledger uses itself"),
        ("dashboard", "that Hookledger uses itself"),
        ("token:5f2c9a0e41b7", "that Hookledger uses itself"),
        ("cli:root", "that Hookledger uses itself"),
    ],
)
def test_an_actor_is_nobody_else(actor: str, says: str) -> None:
    assert says in problems(actor=actor)["actor"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = problems(
        actor="", role="owner", valid_seconds=3601, return_url="javascript:alert(1)", path="//evil.example"
    )
    assert set(found) == {"actor", "role", "valid_seconds", "return_url", "path"}
    assert found["role"] == "must be manage or view"
    assert found["valid_seconds"] == "must be 1 to 3600"
    assert problems(valid_seconds=0)["valid_seconds"] == "must be 1 to 3600"


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("/webhooks", "/t/acme/webhooks"),
        ("/webhooks/new?copy=1", "/t/acme/webhooks/new?copy=1"),
        (
            "/t/acme/deliveries?status=failed&since=2026-11-24T08:30",
            "/t/acme/deliveries?status=failed&since=2026-11-24T08:30",
        ),
        ("/events/a%2Db", "/t/acme/events/a%2Db"),
    ],
)
def test_a_path_leads_to_a_page_of_the_tenant(path: str, whole: str) -> None:
    found = check("acme", actor="jane", path=path)
    assert isinstance(found, LoginLinkDraft)
    assert found.path == whole


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "webhooks",
        "https://evil.example.com/",
        "//evil.example.com/",
        "/\\evil.example.com/",
        "/webhooks\\..\\..",
        "/t/globex/webhooks",
        "/t/acme",
        "/t/acme/",
        "/t/acme/../globex/webhooks",
        "/webhooks/../../globex",
        "/t/acme/%2e%2E/globex/webhooks",
        "/t/acme/webhooks/..%2f..%2fglobex",
        "/t/acme/%5c%5cevil",
        "/t//webhooks",
        "/webhooks#fragment",
        "/webhooks\r\nSet-Cookie: a=b",
        "/web hooks",
        "/bestellungen/ü",
        "/" + "x" * 2048,
    ],
)
def test_a_path_leads_nowhere_else(path: str) -> None:
    assert "must be a page of this tenant" in problems(path=path)["path"]


def test_a_path_needs_a_tenant() -> None:
    found = check(None, actor=None, path="/operator")
    assert not isinstance(found, LoginLinkDraft)


def test_a_tenant_with_odd_characters_has_paths_too() -> None:
    found = check("a/b{c}", actor="jane", path="/webhooks")
    assert isinstance(found, LoginLinkDraft)
    assert found.path == "/t/a%2Fb%7Bc%7D/webhooks"


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com",
        "https://shop.example.com:8443/settings?tab=webhooks#list",
        "http://localhost:3000/",
        "http://127.0.0.1/",
        "http://[::1]:3000/x",
    ],
)
def test_pages_lead_back_over_https_or_to_this_machine(url: str) -> None:
    assert return_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("javascript:alert(1)", "must begin with https://"),
        ("data:text/html,x", "must begin with https://"),
        ("ftp://shop.example.com/", "must begin with https://"),
        ("//shop.example.com/", "must begin with https://"),
        ("/settings", "must begin with https://"),
        ("http://shop.example.com/", "http:// is for loopback only"),
        ("http://localhost.evil.example/", "http:// is for loopback only"),
        ("https://", "must be a URL like"),
        ("https://jane:secret@shop.example.com/", "without a user"),
        ("https://shop.example.com/a b", "must be a URL like"),
        ("https://shop.example.com/\r\nx", "must be a URL like"),
        ("https://shop.example.com\\@evil.example/", "must be a URL like"),
        ("https://[::1/", "must be a URL like"),
        ("https://shop.example.com:99999/", "must be a URL like"),
        ("https://shop.example.com/" + "x" * 2048, "2048 are allowed"),
    ],
)
def test_pages_lead_back_to_nothing_else(url: str, says: str) -> None:
    assert says in (return_url_problem(url) or "")
