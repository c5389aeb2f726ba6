"""Replays under faults: daemons that are killed, or hand their shards over, in the middle of one.

A replay sends what was delivered before, so each delivery is to be taken twice, and written down twice. What a kill may
repeat is known from outside as in test_kill: what had arrived and was not written down when it came.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from uuid import UUID

from tests.support.builders import TENANTS
from tests.support.cli import CommandLine
from tests.support.crash import free_leases
from tests.support.figures import Figures
from tests.support.reckoning import Pair, Watched
from tests.support.stage import OWNERS, Stage
from tests.support.until import until
from tests.support.witness import PROMPT, slow

QUICK_KILLS, QUICK_EVENTS = 2, 900
LONG_KILLS, LONG_EVENTS = 10, 20_000
# Of each tenant, in three rounds: they take longer than another daemon needs to come and have its share.
EACH, ANSWER_SECONDS = 48, 1.2
ROUTE_CONCURRENCY = 16
EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "all"}

_DELIVERED = "SELECT route_id, event_id FROM hookledger.attempt WHERE outcome = 'delivered'"
_NONE_RUNS = "SELECT NOT EXISTS (SELECT FROM hookledger.replay WHERE state = 'running')"
# Routes of which the hours, with what is not added up yet, say something else than the log.
_MISCOUNTED = """
WITH logged AS (
    SELECT route_id, count(*) FILTER (WHERE outcome = 'delivered') AS successful,
           count(*) FILTER (WHERE outcome = 'delivered' AND number > 1) AS successful_retries,
           count(*) FILTER (WHERE outcome = 'failed') AS failed
      FROM hookledger.attempt GROUP BY route_id
), counted AS (
    SELECT route_id, sum(successful) AS successful, sum(successful_retries) AS successful_retries, sum(failed) AS failed
      FROM (SELECT route_id, successful, successful_retries, failed FROM hookledger.route_metric
             UNION ALL
            SELECT u.* FROM hookledger.route_tally t,
                   unnest(t.route_ids, t.successful, t.successful_retries, t.failed) AS u) each
     GROUP BY route_id
)
SELECT * FROM logged NATURAL FULL JOIN counted WHERE logged IS NULL OR counted IS NULL
"""


async def test_a_daemon_killed_in_the_middle_of_a_replay(
    ground: Stage, figures: Figures, dice: random.Random, is_long: bool
) -> None:
    kills, events = (LONG_KILLS, LONG_EVENTS) if is_long else (QUICK_KILLS, QUICK_EVENTS)
    unwritten: Counter[Pair] = Counter()
    for number in range(kills):
        async with ground.daemon() as daemon:
            if number == 0:
                await ground.route("/acme")
                await ground.producer.publish(events)
                await ground.until_settled()
                await _replay(ground, ground.routes[0])
            await ground.until_arrived(ground.witness.count + dice.randint(1, events // kills // 2))
            daemon.kill()
        await until(lambda: ground.witness.connections() == 0)
        unwritten += _arrived(ground) - await _written(ground) - unwritten
        await free_leases(ground.database_url)
    async with ground.daemon():
        await ground.until_row(_NONE_RUNS, seconds=120)
        await ground.until_settled()
        written = await _written(ground)
        repeated = +(_arrived(ground) - Counter(dict.fromkeys(written, 2)))
        figures.say("kills", kills)
        figures.say("replayed", len(written))
        figures.say("lost", sum(count < 2 for count in written.values()) + events - len(written), at_most=0)
        figures.say("recorded twice", sum(count > 2 for count in written.values()), at_most=0)
        figures.say("duplicates", repeated.total(), at_most=unwritten.total())
        assert repeated <= unwritten, "something was repeated though it was written down"
        await _nothing_is_sent_once_cancelled(ground, figures, ground.routes[0])
    await _agrees(ground)
    figures.hold()


async def test_replays_handed_over_from_one_daemon_to_another(ground: Stage, figures: Figures) -> None:
    ground.producer.tenants = TENANTS
    async with ground.daemon() as first:
        routes = [await ground.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS]
        await ground.producer.publish(EACH * len(TENANTS))
        await ground.until_settled()
        for route in routes:
            ground.witness.behave(route.path, slow(ANSWER_SECONDS))
            await _replay(ground, route)
        await ground.until_more(len(routes))
        async with ground.daemon() as second:
            await ground.until_row(f"SELECT count(DISTINCT pid) = 2 FROM ({OWNERS}) owners")
            running = await ground.value("SELECT count(*) FROM hookledger.replay WHERE state = 'running'")
            assert await first.stop() == 0
            for route in routes:
                ground.witness.behave(route.path, PROMPT)
            await ground.until_row(_NONE_RUNS, seconds=60)
            await ground.until_settled()
            assert await second.stop() == 0
    figures.say("replays running when handed over", running, at_least=1, forgiven=0)
    figures.say("deliveries not sent twice", sum(count != 2 for count in _arrived(ground).values()), at_most=0)
    assert _arrived(ground) == await _written(ground)
    await _agrees(ground)
    figures.hold()


async def _replay(ground: Stage, route: Watched) -> str:
    begun = await ground.ask("POST", f"/v1/tenants/{route.tenant}/routes/{route.id}/replay", EVER)
    return str(begun["id"])


async def _nothing_is_sent_once_cancelled(ground: Stage, figures: Figures, route: Watched) -> None:
    """But what was under way. An event published then comes alone."""
    ground.witness.behave(route.path, slow(0.1))
    before = _arrived(ground)
    replay = await _replay(ground, route)
    await ground.until_more(20)
    await ground.ask("POST", f"/v1/tenants/{route.tenant}/routes/{route.id}/replays/{replay}/cancel", {})
    cancelled_at = time.monotonic()
    await ground.until_settled()
    (event,) = await ground.producer.publish(1)
    await ground.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1", event.id)
    late = [one for one in ground.witness.arrivals() if one.at > cancelled_at and one.event_id != event.id]
    figures.say("sent after a cancel", len(late), at_most=ROUTE_CONCURRENCY)
    assert (_arrived(ground) - before)[route.path, event.id] == 1


def _arrived(ground: Stage) -> Counter[Pair]:
    return Counter((one.path, one.event_id) for one in ground.witness.arrivals() if one.is_taken)


async def _written(ground: Stage) -> Counter[Pair]:
    paths: dict[UUID, str] = {route.id: route.path for route in ground.routes}
    return Counter((paths[row["route_id"]], row["event_id"]) for row in await ground.rows(_DELIVERED))


async def _agrees(ground: Stage) -> None:
    """The routing decisions with the log, and the metrics with it."""
    hookledger = CommandLine(ground.home, ground.database_url)
    report = (await asyncio.to_thread(hookledger, "audit", "--json")).json
    assert report["deliveries"]
    assert await ground.rows(_MISCOUNTED) == []
