"""GET /v1/status: the state of the installation, and its warnings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import asyncpg

from daemon import __version__
from daemon.web.service.operator.status_warnings import warnings
from eventstore.domain_events.events import SHARDS
from eventstore.queries.metrics.status import UNEXAMINED, InstallationStatus, LogState, ProcessState, ShardStatus
from tests.support.web.application import app, path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOG = LogState(at=NOON, tick=7, tick_at=NOON, tick_route_pos=3, route_pos=3, is_unread=False, oldest_seconds=0.0)
PROCESS = ProcessState(
    owner="here:1:a", host="here", pid=1, version="1.0", started_at=NOON, seen_at=NOON, is_alive=True
)
SHARD = ShardStatus(
    shard=0, owner="here:1:a", epoch=1, expires_at=NOON, checkpoint=7, lag_seconds=0.0, retrying=0, parked=0
)


def status(
    *, processes: tuple[ProcessState, ...] = (PROCESS,), shards: tuple[ShardStatus, ...] = (SHARD,)
) -> InstallationStatus:
    return InstallationStatus(processes=processes, shards=shards, log=LOG)


def noticed(found: InstallationStatus, *, tick_age_seconds: float = 0.0) -> list[str]:
    return list(warnings(found, tick_age_seconds=tick_age_seconds))


def test_a_late_tick_is_the_first_thing_to_look_at() -> None:
    assert noticed(status(), tick_age_seconds=2.9) == []
    found = noticed(status(shards=(replace(SHARD, lag_seconds=61.4),)), tick_age_seconds=12.3)
    assert found[0].startswith("no tick was made for 12 s although events were published")
    assert len(found) == 2


def test_clocks_that_step_or_disagree_are_told() -> None:
    assert list(warnings(status(), tick_age_seconds=0.0, clock_skew_seconds=-1.9)) == []
    assert list(warnings(status(), tick_age_seconds=0.0, clock_skew_seconds=3600.2, clock_step_seconds=-3600.2)) == [
        "the database's clock stepped back by 3600 s within the last hour: its time synchronisation should slew instead",
        "the clock of this machine is 3600 s ahead of the database's: synchronise both",
    ]


async def test_what_keeps_a_process_from_sealing_is_told(database_url: str) -> None:
    async with app(database_url) as opened:
        opened.pipeline.sealing_fault = "nothing is sealed: because"
        assert "nothing is sealed: because" in (await opened.ask("GET", "/v1/status")).json["warnings"]


async def test_a_stage_that_the_database_refuses_for_long_is_told(database_url: str) -> None:
    async with app(database_url) as opened:
        opened.pipeline.standing_faults = [
            "stage maintenance has had no answer from the database for 601 s: permission"
        ]
        assert opened.pipeline.standing_faults[0] in (await opened.ask("GET", "/v1/status")).json["warnings"]


def test_a_healthy_installation_needs_nobody() -> None:
    assert noticed(status()) == []
    assert noticed(status(shards=(replace(SHARD, lag_seconds=9.9, parked=10**6),))) == []


def test_shards_without_an_owner_come_first() -> None:
    away = [replace(SHARD, shard=n, owner=None, lag_seconds=60.0) for n in (3, 4)]
    gone = replace(PROCESS, owner="there:2:b", host="there", pid=2, is_alive=False)
    assert noticed(status(processes=(PROCESS, gone), shards=(SHARD, *away))) == [
        "nobody delivers for shards 3, 4",
        "process 2 on there was last seen at 2026-01-01T12:00:00.000000Z",
    ]


def test_a_shard_that_does_not_keep_up_is_named() -> None:
    assert noticed(status(shards=(replace(SHARD, shard=5, lag_seconds=61.4),))) == ["shard 5 is 61 s behind"]


def test_rows_that_somebody_keeps_from_being_removed_are_told_once_they_cost_something() -> None:
    assert noticed(replace(status(), server=replace(UNEXAMINED, dead_rows=100_000))) == []
    (only,) = noticed(replace(status(), server=replace(UNEXAMINED, dead_rows=447_504)))
    assert only.startswith("PostgreSQL keeps 447,504 dead rows")


def test_a_server_that_will_take_no_writes_is_told_in_time() -> None:
    assert noticed(replace(status(), server=replace(UNEXAMINED, transactions_left=300_000_000))) == []
    (only,) = noticed(replace(status(), server=replace(UNEXAMINED, transactions_left=299_999_999)))
    assert only.startswith("PostgreSQL takes no writes after 299,999,999 more transactions")


def test_indexes_in_the_order_of_another_system_are_told() -> None:
    (only,) = noticed(replace(status(), server=replace(UNEXAMINED, sorts_otherwise=True)))
    assert "REINDEX DATABASE" in only


def test_two_versions_at_work_are_worth_a_word() -> None:
    newer = replace(PROCESS, owner="x", version="1.1")
    assert noticed(status(processes=(PROCESS, newer))) == ["processes of different versions are running: 1.0, 1.1"]
    (only,) = noticed(status(processes=(PROCESS, replace(newer, is_alive=False))))
    assert only.startswith("process 1 on here")


async def test_the_whole_is_shown_at_one_look(database_url: str) -> None:
    async with app(database_url) as opened:
        route = await opened.route()
        await opened.route()
        await opened.ask("POST", path(route, "/disable"))
        await opened.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "data": {}})
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            """
            SELECT hookledger.make_tick();
            INSERT INTO hookledger.process (owner, host, pid, version, master_key) VALUES ('here:1:a', 'here', 1, '0.1.0', '');
            UPDATE hookledger.lease SET owner = 'here:1:a', epoch = 2, expires_at = clock_timestamp() + interval '1 h'
             WHERE shard <> 3;
            INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant)
            VALUES (gen_random_uuid(), 1, now() - interval '90 s', now(), 1, 3, 1, now(), 'acme');
            """
        )
        await connection.close()

        answer = await opened.ask("GET", "/v1/status")

    assert answer.status == 200
    shown = answer.json
    assert set(shown) == {
        "at", "version", "warnings", "processes", "shards", "backlog", "tick", "routes", "sources",
    }  # fmt: skip
    assert shown["version"] == __version__
    assert shown["warnings"] == ["nobody delivers for shard 3"]
    (process,) = shown["processes"]
    assert process.pop("started_at") <= process.pop("seen_at") <= shown["at"]
    assert process == {
        "owner": "here:1:a",
        "host": "here",
        "pid": 1,
        "version": "0.1.0",
        "is_alive": True,
        "shards": [shard for shard in range(SHARDS) if shard != 3],
    }
    assert [shard["shard"] for shard in shown["shards"]] == list(range(SHARDS))
    three, four = shown["shards"][3], shown["shards"][4]
    assert three["lag_seconds"] > 0
    assert (three["owner"], three["epoch"], three["expires_at"], three["checkpoint"]) == (None, 0, None, 0)
    assert (three["retrying"], three["parked"]) == (1, 0)
    assert (four["owner"], four["epoch"], four["expires_at"] > shown["at"]) == ("here:1:a", 2, True)
    backlog = shown["backlog"]
    assert (backlog["retrying"], backlog["parked"], backlog["unread"]) == (1, 0, False)
    assert 90 <= backlog["oldest_seconds"] < 200
    assert backlog["checkpoint_lag_seconds"] >= three["lag_seconds"]
    assert (shown["tick"]["number"], shown["tick"]["route_pos"], shown["tick"]["at"] <= shown["at"]) == (1, 3, True)
    assert shown["routes"] == {"enabled": 1, "disabled": 1, "position": 3, "applied": 3}
    assert shown["sources"] == {"partitions": [], "members": [], "refusals": 0}


async def test_a_new_installation_has_a_status_too(database_url: str) -> None:
    async with app(database_url) as opened:
        shown = (await opened.ask("GET", "/v1/status")).json
    assert shown["processes"] == []
    assert shown["tick"] == {"number": 0, "at": None, "route_pos": None}
    assert shown["warnings"] == [f"nobody delivers for shards {', '.join(map(str, range(SHARDS)))}"]


async def test_without_the_database_there_is_none(database_url: str) -> None:
    async with app(database_url) as opened:
        await opened.disconnect()
        assert (await opened.ask("GET", "/v1/status")).status == 503


async def test_parameters_are_refused(database_url: str) -> None:
    async with app(database_url) as opened:
        answer = await opened.ask("GET", "/v1/status?tenant=acme")
        assert (answer.status, list(answer.errors)) == (422, ["tenant"])
