"""All sources of a process: built by the configuration, run beside the pipeline, and stopped with it.

They have database connections of their own: a source that catches up takes none from deliveries, nor from publishing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from daemon.catalogue import Catalogue
from daemon.config import Config
from daemon.expressions.evaluator import Evaluator
from daemon.operations import audience_of
from daemon.pipeline.loops import run_forever
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from daemon.runtime.tasks import TaskGroup
from daemon.sources.batches.making import EventMaker
from daemon.sources.batches.taking import STORING
from daemon.sources.news import SourceNews, Tell
from daemon.sources.reporting import SourceReport
from daemon.sources.source import Source
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database

# One more than store at once, for positions and reports.
CONNECTIONS = STORING + 1
# Longer than what is under way takes to be stored (Tunables.source_take_seconds).
STOP_SECONDS = 8.0


class Sources:
    """`run` returns after `stop`, when what was under way is stored. `on_events` hears that something was stored, and
    `tell` what operators are to be told. Raises ExtraMissing if the client is missing.
    """

    def __init__(
        self,
        config: Config,
        database: Database,
        metrics: Metrics,
        *,
        owner: str,
        now: Callable[[], datetime],
        on_events: Callable[[], None],
        tell: Tell,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._stopping = Wakeup()
        # One for each source, and a process only for one that needs it: no message holds up another source.
        self._evaluators = {name: Evaluator(metrics) for name in config.sources}
        storing = asyncio.Semaphore(STORING)
        catalogue = Catalogue(database, is_strict=config.events.strict_types)
        audience = audience_of(config.operations)
        self._sources = [
            Source(
                name,
                section,
                database,
                EventMaker(
                    name,
                    section,
                    max_bytes=config.events.max_bytes,
                    catalogue=catalogue,
                    evaluator=self._evaluators[name],
                    now=now,
                    tunables=tunables,
                ),
                SourceReport(name, database, metrics, SourceNews(name, audience, tell, tunables=tunables), owner=owner),
                storing=storing,
                on_events=on_events,
                tunables=tunables,
            )
            for name, section in config.sources.items()
        ]

    def stop(self) -> None:
        """Asks for a clean end."""
        self._stopping.set()
        for source in self._sources:
            source.stop()

    async def run(self) -> None:
        """Takes all sources until `stop`. One that waits for a broker then is not waited for."""
        async with TaskGroup() as group:
            evaluating = [
                group.create_task(run_forever(f"evaluator of source {name}", evaluator.run_once))
                for name, evaluator in self._evaluators.items()
            ]
            taking = [group.create_task(source.run()) for source in self._sources]
            await self._stopping.wait_set()
            _, late = await asyncio.wait(taking, timeout=STOP_SECONDS)
            for task in (*evaluating, *late):
                task.cancel()
