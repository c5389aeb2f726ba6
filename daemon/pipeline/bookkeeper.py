"""Adds up what became of deliveries, for the metrics of routes (eventstore/route_metrics.py).

Every process does it in turn with the others: whoever comes while one is at it goes away again. Behind schedule the
metrics stay exact, reading them only takes longer.
"""

from __future__ import annotations

import asyncio

from eventstore import route_metrics
from eventstore.connect import Database

ADD_UP_SECONDS = 10.0


class Bookkeeper:
    """`run_once` adds up, and then waits for the next time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self) -> None:
        await route_metrics.add_up(self._database)
        await asyncio.sleep(ADD_UP_SECONDS)
