"""`hookledger publish`: good lines are stored, bad ones reported, and it may be run again at any time."""

import asyncio
import json
import subprocess
import sys

import asyncpg

from tests.support.processes.cli import CommandLine

GOOD = '{"tenant": "acme", "type": "order.create", "data": {"total": 1.10}}'


async def _stored(database_url: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetch("SELECT * FROM hookledger.domain_event ORDER BY seq")
    finally:
        await connection.close()


async def test_bad_lines_are_reported_by_number_and_good_ones_stored(
    hookledger: CommandLine, database_url: str
) -> None:
    bad = [
        "{bad",
        "[]",
        '{"tenant": "acme", "type": "Order", "data": {}, "colour": 1}',
        '{"tenant": "acme", "type": "order.create", "data": {}, "occurred_at": "2999-01-01T00:00:00Z"}',
        '{"tenant": "acme", "type": "order.create", "data": {}, "occurred_at": "0001-01-01T00:00:00+12:00"}',
        json.dumps({"tenant": "acme", "type": "order.create", "data": {"x": "y" * 300_000}}),
    ]
    ended = hookledger("publish", "-", "--json", stdin="\n".join([GOOD, "", *bad, GOOD]), code=1)
    assert ended.json == {"accepted": 2, "duplicates": 0, "rejected": 6}
    assert [line.split(": ")[0] for line in ended.err.splitlines()] == [f"line {n}" for n in range(3, 9)]
    assert "not valid JSON" in ended.err
    assert "more than a day in the future" in ended.err
    assert "262144 are allowed" in ended.err
    assert [row["data"] for row in await _stored(database_url)] == [b'{"total": 1.10}'] * 2


def test_of_many_bad_lines_the_first_are_reported_and_the_rest_counted(hookledger: CommandLine) -> None:
    text = b"\xff\xfe\n" * 24
    reports = [f"line {n}: not valid JSON: it is not UTF-8" for n in range(1, 21)]
    assert hookledger("publish", stdin=text, code=1).err.splitlines() == [*reports, "and 4 more"]
    assert hookledger("publish", stdin=text[: 3 * 20], code=1).err.splitlines() == reports


async def test_publishing_the_same_file_again_adds_nothing(hookledger: CommandLine, database_url: str) -> None:
    file = hookledger.home / "events.ndjson"
    with_ids = [json.dumps({"tenant": "acme", "type": "a.b", "id": f"e{n}", "data": {}}) for n in range(1500)]
    file.write_text("\n".join([GOOD, *with_ids, GOOD]))
    assert hookledger("publish", str(file), "--json").json["accepted"] == 1502
    file.write_text(file.read_text() + "\n" + GOOD)
    assert hookledger("publish", str(file), "--json").json == {"accepted": 1, "duplicates": 1502, "rejected": 0}
    assert len(await _stored(database_url)) == 1503


def test_lines_without_an_id_that_were_published_before_are_named(hookledger: CommandLine) -> None:
    with_id = '{"tenant": "acme", "type": "a.b", "id": "e1", "data": {}}'
    assert hookledger("publish", stdin=f"{GOOD}\n{with_id}").err == ""
    again = hookledger("publish", "--json", stdin=f"{GOOD}\n{with_id}")
    assert again.json == {"accepted": 0, "duplicates": 2, "rejected": 0}
    assert again.err == (
        "1 line without an id was published before from the same place, within 24 hours: give it an id to publish it "
        "again\n"
    )
    hookledger("publish", stdin=f"{GOOD}\n{GOOD}")
    assert hookledger("publish", stdin=f"{GOOD}\n{GOOD}").err == (
        "2 lines without an id were published before from the same place, within 24 hours: give each an id to publish "
        "them again\n"
    )


async def test_tenant_and_backfill_of_the_command_hold_for_every_line(
    hookledger: CommandLine, database_url: str
) -> None:
    lines = ['{"type": "order.create", "data": {}}', GOOD.replace("acme", "glow")]
    ended = hookledger("publish", "--tenant", "acme", "--backfill", "--json", stdin="\n".join(lines), code=1)
    assert ended.json == {"accepted": 1, "duplicates": 0, "rejected": 1}
    assert "line 2: tenant" in ended.err
    assert [(row["tenant"], row["backfill"]) for row in await _stored(database_url)] == [("acme", True)]


def test_the_summary_is_a_table_without_json(hookledger: CommandLine) -> None:
    out = hookledger("publish", stdin=GOOD).out
    assert [line.split() for line in out.splitlines()] == [["accepted", "1"], ["duplicates", "0"], ["rejected", "0"]]


async def test_a_pipe_that_falls_silent_does_not_hold_its_events_back(
    hookledger: CommandLine, database_url: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "publish", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=hookledger.home,
        env=hookledger.environment,
    )
    assert process.stdin is not None
    process.stdin.write(GOOD.encode() + b"\n")
    process.stdin.flush()
    while not await _stored(database_url):
        assert process.poll() is None
    out, _ = process.communicate(timeout=30)
    assert json.loads(out)["accepted"] == 1


async def test_a_pipe_that_never_falls_silent_does_not_hold_its_events_back_either(
    hookledger: CommandLine, database_url: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "publish", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=hookledger.home,
        env=hookledger.environment,
    )
    assert process.stdin is not None
    written = 0
    async with asyncio.timeout(20):
        while not await _stored(database_url):
            process.stdin.write(GOOD.encode() + b"\n")
            process.stdin.flush()
            written += 1
            await asyncio.sleep(0.05)
    out, _ = process.communicate(timeout=30)
    assert json.loads(out)["accepted"] == written


def _types(*names: str) -> str:
    return json.dumps([{"name": name, "example": {"data": {}}} for name in names])


async def test_a_pipe_takes_types_that_were_added_to_the_catalogue_meanwhile(
    hookledger: CommandLine, database_url: str
) -> None:
    hookledger("event-types", "load", "-", "--yes", stdin=_types("order.create"))
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "publish", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=hookledger.home,
        env=hookledger.environment | {"HOOKLEDGER_EVENTS__STRICT_TYPES": "true"},
    )
    assert process.stdin is not None
    process.stdin.write(GOOD.encode() + b"\n")
    process.stdin.flush()
    while not await _stored(database_url):
        assert process.poll() is None
    hookledger("event-types", "load", "-", "--yes", stdin=_types("order.create", "order.cancel"))
    async with asyncio.timeout(20):
        while len(await _stored(database_url)) < 2:
            process.stdin.write(GOOD.replace("create", "cancel").encode() + b"\n")
            process.stdin.flush()
            await asyncio.sleep(0.1)
    process.communicate(timeout=30)


def test_a_file_of_one_endless_line_is_one_rejected_line(hookledger: CommandLine) -> None:
    ended = hookledger("publish", "--json", stdin=b"x" * 20_000_000, code=1)
    assert ended.json["rejected"] == 1
    assert "20000000 bytes" in ended.err
