"""All receivers down, then up again: the backlog is drained in order, and nobody gets more than asked for.

One route is ordered, one has a rate limit, two are plain. A limit is measured over two seconds, so that a receiving
process which was not given the processor for a moment does not look like a daemon in a hurry.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from tests.support.figures import Figures
from tests.support.reckoning import most_within
from tests.support.stage import Stage
from tests.support.until import until
from tests.support.witness import FAILING, PROMPT

RATE_PER_SECOND = 100
WINDOW_SECONDS = 2.0
KINDS = ("ordered", "limited", "plain", "simple")


async def test_all_receivers_down_and_up_again(ground: Stage, figures: Figures, is_long: bool) -> None:
    backlog, down_seconds = (50_000, 20) if is_long else (1_200, 2)
    paths = [f"/{kind}" for kind in KINDS]
    settings = {"HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "1", "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": "2"}
    async with ground.daemon(**settings):
        more: dict[str, dict[str, Any]] = {
            "ordered": {"ordered": True},
            "limited": {"rate_limit_per_second": RATE_PER_SECOND},
        }
        for kind in KINDS:
            await ground.route(f"/{kind}", f"{kind}.create", **more.get(kind, {}))
            ground.witness.behave(f"/{kind}", FAILING)
        ground.producer.types = [f"{kind}.create" for kind in KINDS]
        began = time.monotonic()
        # In small batches: what is published together has no order.
        await ground.producer.publish(backlog, batch=20)
        await ground.until_arrived(len(paths))
        await until(lambda: time.monotonic() > began + down_seconds, seconds=down_seconds + 1)
        up_at = time.monotonic()
        for path in paths:
            ground.witness.behave(path, PROMPT)
        await ground.until_settled(seconds=1200 if is_long else 60)
    arrivals = ground.witness.arrivals()
    taken = {path: [one.at for one in arrivals if one.path == path and one.is_taken] for path in paths}
    found = await ground.reckoning()
    figures.say("backlog", backlog)
    figures.reckon(found, duplicates_at_most=0)
    figures.say("overtaken on the ordered route", len(found.overtaken), at_most=0)
    rate = most_within((one.at for one in arrivals if one.path == "/limited"), WINDOW_SECONDS) / WINDOW_SECONDS
    figures.say("limited route, most per second", rate, at_most=RATE_PER_SECOND * 1.2, forgiven=RATE_PER_SECOND * 1.5)
    figures.say("plain route drained after", max(taken["/plain"]) - up_at, "s")
    figures.say("limited route drained after", max(taken["/limited"]) - up_at, "s")
    figures.say("ordered route drained after", max(taken["/ordered"]) - up_at, "s")
    figures.say("longest pause while draining", max(b - a for a, b in pairwise(sorted(taken["/limited"]))), "s")
    figures.hold()
