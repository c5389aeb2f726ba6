"""`hookledger rebuild`, `explain` and `audit`, and the running daemon that `rebuild` compares with."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.support.processes.cli import CommandLine

# True once every shard has read every event.
ACCOUNTED = """
SELECT (SELECT min(tick) FROM hookledger.checkpoint) = (SELECT max(tick) FROM hookledger.tick)
   AND NOT hookledger.has_news((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1))
"""
EVENT = '{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {}}'


@pytest.fixture
def daemon(hookledger: CommandLine) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A running daemon: its URL and its process."""
    process = hookledger.start("run", "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"ready: dashboard and API (http://127\.0\.0\.1:\d+)", line)
    try:
        assert found, (line, process.stderr.read() if process.stderr and not line else "")
        yield found[1], process
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert "Traceback" not in err
    assert process.returncode == 0


def test_a_rebuild_prints_state_and_digest_now_and_then(hookledger: CommandLine) -> None:
    empty = hookledger("rebuild", "--json").json
    assert (empty["position"], empty["routes"]) == (0, [])
    created = hookledger.create_route()
    then = hookledger("rebuild", "--json").json
    hookledger("routes", "disable", created["id"])
    now = hookledger("rebuild", "--json").json
    assert (now["position"], now["routes"][0]["status"]) == (2, "disabled")
    assert now["state_sha256"] != then["state_sha256"]
    assert hookledger("rebuild", "--as-of", created["created_at"], "--json").json == then
    assert hookledger("rebuild", "--tenant", "glow", "--json").json["routes"] == []
    assert now["state_sha256"] in hookledger("rebuild").out


@pytest.mark.parametrize(
    "arguments",
    [("audit",), ("audit", "--json"), ("rebuild", "--expect", "1:" + 64 * "0"), ("publish", "bad.ndjson")],
    ids=lambda each: " ".join(each[:2]),
)
@pytest.mark.parametrize("is_silent", [False, True])
async def test_a_check_that_nobody_reads_to_its_end_fails_all_the_same(
    hookledger: CommandLine, arguments: tuple[str, ...], *, is_silent: bool
) -> None:
    """As `| head`, or `| grep -q`, in a script that looks at each command of a pipe; `2>&1` before it."""
    hookledger.create_route()
    (hookledger.home / "bad.ndjson").write_text("no event\n")
    with hookledger.start(*arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        if is_silent:
            process.stderr.close()
        assert process.wait(60) == 1


async def test_a_rebuild_notices_a_changed_log(hookledger: CommandLine, database_url: str) -> None:
    hookledger.create_route()
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE hookledger.route_event DISABLE TRIGGER ALL")
    await connection.execute("UPDATE hookledger.route_event SET actor = 'somebody else'")
    await connection.close()
    ended = hookledger("rebuild", code=1)
    assert ended.err.startswith("error: position 1 is not what was written")


async def test_a_log_that_no_command_can_have_written_is_told_by_every_command_and_starts_no_daemon(
    hookledger: CommandLine, database_url: str
) -> None:
    """The forged change continues the hash chain, so it is not found by its hash."""
    route = hookledger.create_route()["id"]
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT hookledger.append_route_event($1, 'acme', 2, 'enabled', 'nobody', 'api', NULL, NULL, NULL, NULL, '{}')",
        UUID(route),
    )
    await connection.close()
    for command in (
        ("rebuild",),
        ("routes", "list"),
        ("routes", "disable", route),
        ("run", "--dev", "--listen", "127.0.0.1:0"),
    ):
        told = hookledger(*command, code=1).err
        assert "position 2 cannot have been written" in told
        assert "enabled already" in told
        assert "try: compare" in told


async def test_a_rebuild_notices_a_log_that_is_not_what_was_noted_before(
    hookledger: CommandLine, database_url: str
) -> None:
    for option in ("1", "0:" + "a" * 64, "x:" + "a" * 64, "1:" + "a" * 63, "1:" + "g" * 64):
        assert "give the head" in hookledger("rebuild", "--expect", option, code=2).err
    hookledger.create_route()
    first = hookledger("rebuild", "--json").json["head"]
    hookledger.create_route()
    head = hookledger("rebuild", "--expect", first, "--json").json["head"]
    assert head in hookledger("rebuild").out
    assert "at position 2 the route log is as it was" in hookledger("rebuild", "--expect", head).err
    ahead = hookledger("rebuild", "--expect", "4:" + "a" * 64, code=1).err
    assert "the route log ends at position 2, and had position 4 before: 2 lifecycle events are gone" in ahead
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SET session_replication_role = replica; DELETE FROM hookledger.route_event WHERE pos = 2; "
        "DELETE FROM hookledger.route_event_signature WHERE pos = 2"
    )
    await connection.close()
    assert "1 lifecycle event is gone" in hookledger("rebuild", "--expect", head, code=1).err
    hookledger.create_route("--name", "Another")
    rewritten = hookledger("rebuild", "--expect", head, code=1).err
    assert f"and had {head[2:]} before: it, or one before it, is not what was written" in rewritten
    hookledger("rebuild", "--expect", first)


def test_a_rebuild_agrees_with_a_running_daemon(
    hookledger: CommandLine, daemon: tuple[str, subprocess.Popen[str]]
) -> None:
    url, _ = daemon
    route = hookledger.create_route()["id"]
    hookledger("routes", "disable", route)
    ended = hookledger("rebuild", "--against", url, "--json")
    assert ended.json["position"] == 2
    assert "the same as the live projection" in ended.err
    hookledger.environment["HOOKLEDGER_SERVER__LISTEN"] = url.removeprefix("http://")
    assert "is alive" in hookledger("healthcheck").out


def test_a_rebuild_against_a_daemon_of_another_state_fails(
    hookledger: CommandLine, daemon: tuple[str, subprocess.Popen[str]], tmp_path: Path, empty_database_url: str
) -> None:
    url, _ = daemon
    hookledger.create_route()
    hookledger("rebuild", "--against", url)
    elsewhere = CommandLine(tmp_path, empty_database_url)
    elsewhere("migrate")
    elsewhere.create_route("--name", "Another")
    assert "has another state at position 1" in elsewhere("rebuild", "--against", url, code=1).err


def test_nobody_to_compare_with_is_exit_code_1(hookledger: CommandLine) -> None:
    assert "does not answer" in hookledger("rebuild", "--against", "http://127.0.0.1:1", code=1).err
    assert "is no URL" in hookledger("rebuild", "--against", "localhost", code=1).err


def test_explain_says_a_sentence_for_each_route(hookledger: CommandLine) -> None:
    hookledger("publish", stdin=EVENT)
    assert "never had a route" in hookledger("explain", "evt_1").out
    route = hookledger.create_route()["id"]
    hookledger("publish", stdin=EVENT.replace("evt_1", "evt_2"))
    [explanation] = hookledger("explain", "evt_2", "--json").json
    assert (explanation["route"], explanation["decision"]) == (route, "not_yet_read")
    assert "has not been read yet" in hookledger("explain", "evt_2", "--route", route).out
    other = "5b1f6d0e-7a5b-4a37-9d5c-0d3f2f2f7d11"
    assert f"has no route {other}" in hookledger("explain", "evt_2", "--route", other, code=1).err
    hookledger("publish", stdin=EVENT.replace("acme", "glow").replace("evt_1", "evt_2"))
    assert "try: repeat the command with --tenant" in hookledger("explain", "evt_2", code=1).err
    hookledger("explain", "evt_2", "--tenant", "acme")


async def test_an_audit_finds_what_is_missing_in_the_record(
    hookledger: CommandLine, daemon: tuple[str, subprocess.Popen[str]], database_url: str
) -> None:
    hookledger.create_route("--target-url", "https://shop.example/")
    hookledger("publish", stdin=EVENT)
    connection = await asyncpg.connect(database_url)
    while not await connection.fetchval("SELECT count(*) FROM hookledger.attempt"):
        pass
    while not await connection.fetchval(ACCOUNTED):
        pass
    report = hookledger("audit", "--json").json
    assert (report["deliveries"], report["findings"], report["gaps"]) == (1, [], [])
    await connection.execute("DELETE FROM hookledger.attempt")
    await connection.execute("DELETE FROM hookledger.retry")
    await connection.close()
    found = hookledger("audit", "--json", code=1)
    (finding,) = json.loads(found.out)["findings"]
    assert (finding["kind"], finding["table"], finding["event"]) == ("missing", "attempt", "evt_1")
    assert finding["detail"] == "it was due, but is neither recorded nor waiting"
    assert "neither recorded nor waiting" in hookledger("audit", code=1).out


async def test_an_audit_without_anything_to_judge_or_with_something_unread_fails_and_says_so(
    hookledger: CommandLine, database_url: str
) -> None:
    nothing = hookledger("audit", code=1)
    assert "no event of this period was judged" in nothing.err
    assert "nothing was judged" in nothing.out
    hookledger("publish", stdin=EVENT)
    assert "1 event of this period is not read yet, and was not judged" in hookledger("audit", code=1).err
    gaps = hookledger("audit", "--to", "2020-01-01", "--json", code=1).json["gaps"]
    assert gaps[0] == "no event of this period was judged"


async def test_an_audit_of_a_tenant_that_nobody_knows_fails_and_says_so(
    hookledger: CommandLine, database_url: str
) -> None:
    hookledger.create_route()
    sentence = "tenant acmee has no event of this period, and never had a webhook: is that its id?"
    assert sentence in hookledger("audit", "--tenant", "acmee", code=1).err
    assert sentence in hookledger("audit", "--tenant", "acmee", "--json", code=1).json["gaps"]
    known = hookledger("audit", "--tenant", "acme", "--json", code=1).json["gaps"]
    assert known == ["no event of this period was judged"]


async def test_an_audit_without_the_master_key_says_that_it_did_not_check_secrets(
    hookledger: CommandLine, database_url: str, tmp_path: Path
) -> None:
    hookledger.create_route()
    (tmp_path / "auditor").mkdir()
    elsewhere = CommandLine(tmp_path / "auditor", database_url)
    assert "without the master key it was not checked" in elsewhere("audit", code=1).err


@pytest.mark.parametrize("outcome", ["suppressed", "expired"])
async def test_explain_shows_an_end_without_a_request_as_what_it_is(
    hookledger: CommandLine, database_url: str, outcome: str
) -> None:
    route = hookledger.create_route()["id"]
    hookledger("publish", stdin=EVENT)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        INSERT INTO hookledger.attempt (seq, tick, route_id, event_time, started_at, shard, number, duration_ms,
                                        route_version, outcome, tenant, event_id, event_type)
        SELECT e.seq, 1, $1, e.recorded_at, e.recorded_at, 0, made.number, 0, 1, made.outcome, e.tenant, e.id, e.type
          FROM hookledger.domain_event AS e, (VALUES (1, 'retrying'), (0, $2)) AS made (number, outcome)
        """,
        UUID(route),
        outcome,
    )
    await connection.close()
    shown = hookledger("explain", "evt_1").out
    assert re.search(rf"(?m)^  {outcome} at \d{{4}}-\d\d-\d\d [\d:.]+Z$", shown), shown
    assert re.findall(r"attempt \d+", shown) == ["attempt 1"]


async def test_explain_takes_the_one_that_is_meant_of_two_events_with_one_id(
    hookledger: CommandLine, database_url: str
) -> None:
    hookledger("publish", stdin=EVENT)
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("SELECT hookledger.ensure_partitions(current_date - 3, current_date)")
    recorded_at = await connection.fetchval(
        "UPDATE hookledger.domain_event SET recorded_at = recorded_at - interval '2 days' RETURNING recorded_at"
    )
    await connection.execute("DELETE FROM hookledger.domain_event_midnight")
    await connection.close()
    hookledger.create_route()
    hookledger("publish", stdin=EVENT)
    older = ("--recorded-at", recorded_at.isoformat())
    [newest] = hookledger("explain", "evt_1", "--json").json
    [oldest] = hookledger("explain", "evt_1", *older, "--json").json
    assert (newest["decision"], oldest["decision"]) == ("not_yet_read", "before_creation")
    assert newest["event_time"] > oldest["event_time"]
    assert hookledger("explain", "evt_1", "--tenant", "acme", *older, "--json").json == [oldest]
    assert "there is no event" in hookledger("explain", "evt_1", "--recorded-at", "2026-01-01T00:00:00Z", code=1).err


async def test_an_audit_names_what_was_changed_of_the_schema(hookledger: CommandLine, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE hookledger.seal DISABLE TRIGGER seal_append_only")
    await connection.close()
    (finding,) = hookledger("audit", "--json", code=1).json["findings"]
    assert (finding["table"], finding["key"]) == ("schema", "trigger seal.seal_append_only")


async def test_an_audit_names_what_it_broke_off_at(hookledger: CommandLine, database_url: str) -> None:
    hookledger.create_route()
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SET session_replication_role = replica; UPDATE hookledger.route_event SET effective_at = '0044-03-15 BC'"
    )
    await connection.close()
    ended = hookledger("audit", "--json", code=1).json
    for findings in (ended["findings"], ended["seals"]["findings"]):
        assert findings[-1]["detail"].endswith(
            "effective_at is 0044-03-15 00:00:00+00 BC, which is no time that we write"
        )
    assert ended["gaps"][0] == "the audit did not come to its end, because of what was found"
    shown = hookledger("audit", code=1)
    assert "pos 1" in shown.out
    assert "it broke off with: date value out of range" in shown.err


async def test_an_audit_does_not_pass_over_what_was_dropped_too_early(
    hookledger: CommandLine, database_url: str
) -> None:
    hookledger("publish", stdin=EVENT)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO hookledger.meta VALUES ('attempts_kept_from', to_char(now(), 'YYYY-MM-DD') || 'T00:00:00+00:00')"
    )
    await connection.close()
    assert "retention.attempts_days is 30" in hookledger("audit", code=1).err
    hookledger.environment["HOOKLEDGER_RETENTION__ATTEMPTS_DAYS"] = "1"
    assert "retention.attempts_days" not in hookledger("audit", code=1).err


async def test_an_audit_says_plainly_what_is_no_longer_kept(hookledger: CommandLine, database_url: str) -> None:
    hookledger("publish", stdin=EVENT)
    assert hookledger("audit", "--json", code=1).json["kept_from"] is None
    assert "no longer kept" not in hookledger("audit", code=1).err
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO hookledger.meta VALUES ('events_kept_from', '2026-01-02T00:00:00+00:00')")
    await connection.close()
    assert hookledger("audit", "--json", code=1).json["kept_from"] == "2026-01-02T00:00:00.000000Z"
    assert "before 2026-01-02 00:00:00.000000Z is no longer kept" in hookledger("audit", code=1).err
    assert hookledger("audit", "--from", "2026-01-02T00:00:00Z", "--json", code=1).json["kept_from"] is None
