"""The connection to PostgreSQL is cut, stalls, or loses the answers to what was committed.

The last one is why producers have ids: an event whose answer was lost is there, and published again it is no second one.
"""

from __future__ import annotations

from tests.support.cable import Cable, cable
from tests.support.figures import Figures
from tests.support.stage import Stage
from tests.support.until import until


async def test_a_connection_cut_stalled_and_deaf(ground: Stage, figures: Figures, is_long: bool) -> None:
    rounds = 5 if is_long else 1
    async with cable(ground.database_url) as line, ground.daemon(through=line.url):
        await ground.route("/acme")
        async with ground.producer.load(per_second=200):
            for _ in range(rounds):
                await _cut(ground, line)
                await _stall(ground, line)
                await _lose_answers(ground, line)
        await ground.until_settled()
    figures.say("rounds of cut, stalled, deaf", rounds)
    figures.reckon(await ground.reckoning(), duplicates_at_most=0)
    figures.say("answers lost", line.lost_bytes, "B", at_least=1)
    figures.say("batches that were refused", len(ground.producer.refusals()), at_least=1)
    figures.say("events stored twice", await ground.events_stored_twice(), at_most=0)
    figures.hold()


async def _cut(ground: Stage, line: Cable) -> None:
    await ground.until_more(50)
    line.cut()
    await _until_refused(ground)
    line.mend()


async def _stall(ground: Stage, line: Cable) -> None:
    await ground.until_more(50)
    line.hold()
    await _until_refused(ground)
    line.mend()


async def _lose_answers(ground: Stage, line: Cable) -> None:
    await ground.until_more(50)
    stored: int = await ground.value("SELECT count(*) FROM hookledger.domain_event")
    line.lose_answers()
    await _until_refused(ground)
    await ground.until_row("SELECT count(*) > $1 FROM hookledger.domain_event", stored)
    line.cut()  # who waits for an answer that is gone must notice
    line.mend()


async def _until_refused(ground: Stage) -> None:
    before = len(ground.producer.refusals())
    await until(lambda: len(ground.producer.refusals()) > before + 1, seconds=30)
