"""`hookledger routes`: every command on a route, at a terminal."""

import json
from pathlib import Path

import pytest

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import running
from tests.support.receivers.receiver import receiver


def test_a_route_is_created_with_every_option_and_its_key_shown_once(hookledger: CommandLine) -> None:
    created = hookledger.create_route(
        "--header", "X-Shop: acme", "--snapshot", "customer", "--snapshot", "orders:public_id,total",
        "--filter", "object.total != `0`", "--transform", "data", "--ordered", "--rate-limit", "2.5", "--disabled",
    )  # fmt: skip
    assert created["verification_key"].startswith("whsec_")
    shown = hookledger("routes", "show", created["id"], "--json").json
    assert "verification_key" not in shown
    assert shown == {key: value for key, value in created.items() if key != "verification_key"}
    assert shown["status"] == "disabled"
    assert shown["headers"] == {"X-Shop": "***"}
    assert shown["ordered"] is True
    assert shown["rate_limit_per_second"] == 2.5
    assert shown["payload"]["snapshot"] == {"customer": True, "orders": ["public_id", "total"]}
    assert shown["payload"]["transform"] == "data"


def test_routes_are_listed_as_a_table_and_as_json(hookledger: CommandLine) -> None:
    assert "hookledger routes create" in hookledger("routes", "list").out
    assert hookledger("routes", "list", "--json").json == []
    mine, theirs = hookledger.create_route(), hookledger.create_route("--disabled", tenant="glow")
    head, *rows = hookledger("routes", "list").out.splitlines()
    assert head.split()[:4] == ["id", "tenant", "name", "status"]
    assert [row.split()[0] for row in rows] == [mine["id"], theirs["id"]]
    assert [r["id"] for r in hookledger("routes", "list", "--tenant", "glow", "--json").json] == [theirs["id"]]
    assert [r["id"] for r in hookledger("routes", "list", "--status", "enabled", "--json").json] == [mine["id"]]


def test_a_life_of_a_route_is_its_history(hookledger: CommandLine) -> None:
    route = hookledger.create_route("--reason", "a shop asked for it")["id"]
    edited = hookledger("routes", "edit", route, "--name", "New", "--header", "X-A: b", "--json").json
    assert (edited["name"], edited["headers"], edited["version"]) == ("New", {"X-A": "***"}, 2)
    assert hookledger("routes", "disable", route, "--reason", "moving house", "--json").json["status"] == "disabled"
    repeated = hookledger("routes", "disable", route, "--json")
    assert repeated.json["version"] == 3
    assert "nothing to do" in repeated.err
    enabled = hookledger("routes", "enable", route, "--json").json
    assert [window["to"] is None for window in enabled["windows"]] == [False, True]
    rotated = hookledger("routes", "rotate-key", route, "--json").json
    assert rotated["verification_key"].startswith("whsec_")
    assert rotated["key"]["previous_valid_until"] is not None
    assert "rotating again" in hookledger("routes", "rotate-key", route, code=1).err
    hookledger("routes", "rotate-key", route, "--force")
    hookledger("routes", "delete", route, "--yes")

    history = hookledger("routes", "history", route, "--json").json[::-1]
    types = ["created", "edited", "disabled", "enabled", "key_rotated", "key_rotated", "deleted"]
    assert [event["type"] for event in history] == types
    assert all(event["actor"].startswith("cli:") for event in history)
    assert (history[0]["reason"], history[2]["reason"]) == ("a shop asked for it", "moving house")
    assert history[1]["changes"]["name"] == ["Orders", "New"]
    assert "moving house" in hookledger("routes", "history", route).out
    assert hookledger("routes", "list", "--json").json == []


def test_the_previous_key_is_revoked_before_its_time(hookledger: CommandLine) -> None:
    route = hookledger.create_route()["id"]
    assert "no previous key to revoke" in hookledger("routes", "revoke-old-key", route, code=1).err
    rotated = hookledger("routes", "rotate-key", route, "--json").json
    revoked = hookledger("routes", "revoke-old-key", route, "--json").json
    assert revoked["key"]["fingerprint"] == rotated["key"]["fingerprint"]
    assert revoked["key"]["previous_valid_until"] is None
    hookledger("routes", "rotate-key", route)  # which would have needed --force before


async def test_examples_are_sent_to_one_route_alone(hookledger: CommandLine) -> None:
    hookledger("event-types", "load", "--sample")
    async with receiver() as there, running(hookledger) as daemon:
        route, _other = (
            hookledger.create_route("--target-url", f"{there.url}/{path}", "--dev")["id"]
            for path in ("tested", "other")
        )
        (sent,) = hookledger("routes", "test", route, "-e", "order.create", "--json").json
        (got,) = await there.count(1)
        assert (got.path, got.headers["Hookledger-Test"], got.headers["webhook-id"]) == ("/tested", "true", sent["id"])
        assert json.loads(got.body)["type"] == sent["type"] == "order.create"
        assert "order.create" in hookledger("routes", "test", route).out
        assert await daemon.stop() == 0
    assert "shop.open is not in the catalogue" in hookledger("routes", "test", route, "-e", "shop.open", code=2).err
    hookledger("routes", "disable", route)
    assert "enable it, then test it" in hookledger("routes", "test", route, code=1).err


def test_an_edit_leaves_what_it_does_not_name_and_none_clears(hookledger: CommandLine) -> None:
    created = hookledger.create_route(
        "--header", "X-A: b", "--filter", "a", "--rate-limit", "5", "--snapshot", "customer"
    )
    route = created["id"]
    renamed = hookledger("routes", "edit", route, "--name", "Other", "--json").json
    for field in ("target_url", "event_types", "payload", "headers", "rate_limit_per_second", "ordered"):
        assert renamed[field] == created[field]
    clear = ("--filter", "none", "--rate-limit", "none", "--snapshot", "none", "--no-headers")
    cleared = hookledger("routes", "edit", route, *clear, "--json").json
    assert cleared["payload"] == {"snapshot": None, "filter": None, "transform": None}
    assert (cleared["headers"], cleared["rate_limit_per_second"]) == ({}, None)
    assert "is at version 3" in hookledger("routes", "edit", route, "--name", "X", "--if-version", "1", code=1).err


def test_deleting_asks_to_type_delete(hookledger: CommandLine) -> None:
    route = hookledger.create_route()["id"]
    for answer in ("delete\n", "\n", "yes\n", ""):
        refused = hookledger("routes", "delete", route, stdin=answer, code=1)
        *_, asked, error, hint = refused.err.splitlines()
        assert asked.startswith("Type DELETE")
        assert error.startswith("error: nothing was d")
        assert hint.startswith("try: ")
    assert hookledger("routes", "show", route, "--json").json["status"] == "enabled"
    deleted = hookledger("routes", "delete", route, "--json", stdin="DELETE\n")
    assert deleted.json["status"] == "deleted"
    assert "is final" in deleted.err


def test_the_tenant_guards_against_a_slip(hookledger: CommandLine) -> None:
    route = hookledger.create_route()["id"]
    assert "there is no route" in hookledger("routes", "delete", route, "--tenant", "glow", "--yes", code=1).err
    hookledger("routes", "delete", route, "--tenant", "acme", "--yes")


def test_the_past_is_shown_as_it_was(hookledger: CommandLine) -> None:
    route = hookledger.create_route()
    edited = hookledger("routes", "edit", route["id"], "--name", "Later", "--json").json
    assert hookledger("routes", "list", "--as-of", route["updated_at"], "--json").json[0]["name"] == "Orders"
    assert hookledger("routes", "show", route["id"], "--as-of", edited["updated_at"], "--json").json["name"] == "Later"
    assert hookledger("routes", "list", "--as-of", "2020-01-01", "--json").json == []
    before = hookledger("routes", "show", route["id"], "--as-of", "2020-01-01", code=1).err
    assert before.startswith(f"error: there was no route {route['id']} at 2020-01-01 00:00:00")
    assert before.endswith(f"try: hookledger routes history {route['id']}\n")


def test_a_hint_about_the_target_is_given_only_if_that_is_what_is_wrong(hookledger: CommandLine) -> None:
    hookledger.environment |= {
        "HOOKLEDGER_EGRESS__ALLOW_HTTP": "true",
        "HOOKLEDGER_EGRESS__PORTS": "9000",
        "HOOKLEDGER_EGRESS__ALLOW_NETS": "127.0.0.0/8",
    }
    given = ("--name", "x", "--target-url", "http://127.0.0.1:9000/", "-e", "*")
    refused = hookledger("routes", "create", "--tenant", "a b", *given, code=2).err
    assert "error: --tenant: " in refused
    assert "--dev" not in refused


def test_what_is_wrong_with_a_value_names_its_option(hookledger: CommandLine) -> None:
    url, types = ("--target-url", "https://shop.example/"), ("-e", "order.create")
    create = ("routes", "create", "--tenant", "acme")
    for given, wrong in (
        (("--name", " ", *url, *types), ["--name: is empty"]),
        (("--name", "x", "--target-url", "ftp://shop.example", *types), ["--target-url: The URL does not begin"]),
        (("--name", "x", *url, "-e", "nope", "--rate-limit", "0"), ["--rate-limit: must be", "--event-type: 'nope'"]),
        (("--name", "x", *url, *types, "--header", "Host: x"), ["--header Host: this header is"]),
        (("--name", "x", *url, *types, "--filter", "a["), ["--filter: is no JMESPath"]),
        (("--name", "x", *url, *types, "--transform", "a["), ["--transform: is no JMESPath"]),
        (("--name", "x", *url, *types, "--verification-key", "short"), ["--verification-key: has 5 characters"]),
    ):
        lines = hookledger(*create, *given, code=2).err.splitlines()
        assert [line[: len(f"error: {start}")] for line, start in zip(lines, wrong, strict=False)] == [
            f"error: {start}" for start in wrong
        ]
    route = hookledger.create_route()
    assert "error: --name: is empty" in hookledger("routes", "edit", route["id"], "--name", " ", code=2).err
    refused = hookledger("routes", "rotate-key", route["id"], "--verification-key", "short", code=2).err
    assert "error: --verification-key: has 5 characters" in refused
    assert "error: --event-type: " in hookledger("routes", "test", route["id"], "-e", "no.such", code=2).err


def test_loopback_targets_need_dev(hookledger: CommandLine) -> None:
    given = ("--tenant", "acme", "--name", "x", "--target-url", "http://127.0.0.1:9000/", "-e", "*")
    refused = hookledger("routes", "create", *given, code=2)
    assert refused.err.splitlines()[-1].startswith("try: --dev, for a receiver on this machine")
    route = hookledger("routes", "create", *given, "--dev", "--json").json
    assert hookledger("routes", "edit", route["id"], "--name", "y", "--json").json["name"] == "y"
    refused = hookledger("routes", "edit", route["id"], "--target-url", "http://localhost/", code=2)
    assert refused.err.splitlines()[-1].startswith("try: --dev")
    for elsewhere in ("ftp://shop.example/", "https://shop.example:9000/"):
        assert "--dev" not in hookledger("routes", "edit", route["id"], "--target-url", elsewhere, code=2).err


def test_a_route_too_many_is_refused_with_count_limit_and_key_and_a_next_step(
    hookledger: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hookledger.create_route()
    monkeypatch.setitem(hookledger.environment, "HOOKLEDGER_LIMITS__ROUTES_PER_TENANT", "1")
    one_more = ("--name", "Orders", "--target-url", "https://shop.example/hook", "--event-type", "order.*")
    refused = hookledger("routes", "create", "--tenant", "acme", *one_more, code=1)
    first, second = refused.err.splitlines()
    assert first.startswith("error: tenant acme has 1 route, and limits.routes_per_tenant allows 1")
    assert second == "try: hookledger routes delete, or a higher limits.routes_per_tenant"
    hookledger.create_route(tenant="glow")


def test_a_key_is_brought_along_at_creation_and_rotation(hookledger: CommandLine, tmp_path: Path) -> None:
    text, standard = "Schlüssel von früher / 鍵", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    route = hookledger.create_route("--verification-key", standard)
    assert route["verification_key"] == standard
    assert "standard_webhooks_absent" not in route["key"]
    (tmp_path / "key.txt").write_text(f"{text}\r\n", encoding="utf-8")
    file = ("--verification-key-file", str(tmp_path / "key.txt"))
    rotated = hookledger("routes", "rotate-key", route["id"], *file, "--json").json
    assert rotated["verification_key"] == text
    assert "brought along" in rotated["key"]["standard_webhooks_absent"]
    shown = hookledger("routes", "show", route["id"]).out
    assert "Standard Webhooks" in shown
    assert text not in shown
    assert "16 to 256" in hookledger("routes", "rotate-key", route["id"], "--verification-key", "short", code=2).err
    both = hookledger("routes", "rotate-key", route["id"], "--verification-key", standard, *file, code=2).err
    assert "not both" in both
