"""A small model of delivering, and a world in which random steps are taken: tests/pipeline/test_model.py.

The world is real: processes of the pipeline on PostgreSQL, and a receiver on loopback. The model knows only what was
published while a route was enabled, and what the receiver saw. After the last step receivers answer, a process runs,
and everything has to end; then `World.check` compares.

The one thing to know: a crash is allowed to repeat just what was in the hands of the process that died, so the world
notes these pairs at the crash. Requests do not time out within a sequence: a request that timed out and was accepted
all the same would look like a repetition.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from uuid import UUID

from aiohttp import web

from daemon.pipeline.supervisor import Pipeline
from tests.support.pipeline.memory import assert_memory_agrees, is_empty
from tests.support.pipeline.model_check import ELSEWHERE_SECONDS, Arrival, Mode, ModelRoute, Pair, ReceiverLog
from tests.support.pipeline.model_steps import (
    OPTIONS,
    Answer,
    Crash,
    Disable,
    Enable,
    Join,
    Leave,
    Order,
    Pause,
    Publish,
    Step,
)
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, receiver
from tests.support.until import until

# A request that was handed over, and not sent since its route changed while it was being connected, has a row that is
# due after its timeout and some seconds.
SETTLE_SECONDS = 90.0
# The receiver notes a request so long after it started.
ARRIVAL_SECONDS = 0.5

_numbers = count(1)


@dataclass(kw_only=True)
class Member:
    """A process of the world. `parts` closes what it is built of."""

    process: PipelineProcess
    running: asyncio.Task[None]
    parts: AsyncExitStack

    @property
    def pipeline(self) -> Pipeline:
        return self.process.pipeline

    @property
    def owner(self) -> str:
        return self.pipeline._leases._this.owner


class World:
    """Takes steps, then checks what became of everything."""

    def __init__(self, database_url: str, there: Receiver, outside: PipelineProcess) -> None:
        self.tenant = f"model-{next(_numbers)}"
        self.members: list[Member] = []
        self.leaving: list[Member] = []
        self.routes: list[ModelRoute] = []
        self.due: dict[Pair, float] = {}  # what was published for an enabled route, and when
        self.excused: Counter[Pair] = Counter()
        self.arrivals: list[Arrival] = []
        self._database_url = database_url
        self._there = there
        self._outside = outside

    # ---- Steps

    async def begin(self, ordered: tuple[bool, ...]) -> None:
        await self.take(Join())
        for number, is_ordered in enumerate(ordered):
            path = f"/{self.tenant}/{number}"
            route = await self._any.route(self._there.url + path, tenant=self.tenant, ordered=is_ordered)
            self.routes.append(ModelRoute(route=route, is_ordered=is_ordered, ordered_since=time.monotonic()))
            self._there.answer[path] = self._answering(number)

    async def take(self, step: Step) -> None:  # noqa: C901 - a case for each step
        """Takes a step. A step that makes no sense now does nothing."""
        match step:
            case Publish(events):
                before = time.monotonic()
                for event_id in await self._any.publish(tenant=self.tenant, count=events):
                    self.due |= {(n, event_id): before for n, route in enumerate(self.routes) if route.is_enabled}
            case Answer(number, mode):
                self.routes[number].answer_with(mode)
            case Order(number, is_ordered):
                await self._order(self.routes[number], is_ordered)
            case Disable(number):
                await self._disable(self.routes[number])
            case Enable(number):
                await self._any.enable(self.routes[number].route)
                self.routes[number].is_enabled = True
            case Join() if len(self.members) < 2:
                self.members.append(await self._started())
            case Leave(oldest) if self.members:
                member = self.members.pop(0 if oldest else -1)
                member.pipeline.stop()
                self.leaving.append(member)
            case Crash(oldest) if self.members:
                await self._crash(self.members.pop(0 if oldest else -1))
            case Pause(milliseconds):
                await asyncio.sleep(milliseconds / 1000)
            case _:
                pass
        self.check_memory()

    async def settle(self) -> None:
        """Lets everything end: receivers answer, a process runs, and nothing waits in a table any more."""
        for number in range(len(self.routes)):
            await self.take(Answer(number, Mode.OK))
        for member in self.leaving:
            await asyncio.wait_for(member.running, SETTLE_SECONDS)
            await member.parts.aclose()
        self.leaving.clear()
        if not self.members:
            await self.take(Join())
        deadline = time.monotonic() + SETTLE_SECONDS
        while missing := await self._unsettled():
            self.check_memory()
            assert time.monotonic() < deadline, f"not settled: {missing}\n{self.describe()}"
            await asyncio.sleep(0.02)
        await self._any.until_accounted()

    async def end(self) -> None:
        for member in (*self.members, *self.leaving):
            member.pipeline.stop()
            for route in self.routes:
                route.answer_with(Mode.OK)
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(member.running, SETTLE_SECONDS)
            await member.parts.aclose()

    @property
    def _any(self) -> PipelineProcess:
        return self.members[0].process if self.members else self._outside

    async def _order(self, route: ModelRoute, is_ordered: bool) -> None:
        if is_ordered == route.is_ordered:
            return
        if route.is_ordered:
            route.ordered.append((route.ordered_since, time.monotonic()))
        await self._any.edit(route.route, ordered=is_ordered)
        route.is_ordered = is_ordered
        route.ordered_since = time.monotonic() + self._seconds_until_known + ARRIVAL_SECONDS

    async def _disable(self, route: ModelRoute) -> None:
        if route.is_enabled:
            await self._any.disable(route.route)
            route.is_enabled = False
            now = time.monotonic()
            route.disabled.append((now, now + self._seconds_until_known + ARRIVAL_SECONDS))

    @property
    def _seconds_until_known(self) -> float:
        """How long after a command is acknowledged somebody may still act on the state before."""
        return 0.0 if len(self.members) == 1 and not self.leaving else ELSEWHERE_SECONDS

    async def _started(self) -> Member:
        parts = AsyncExitStack()
        process = await parts.enter_async_context(pipeline_process(self._database_url, run=False, **OPTIONS))  # type: ignore[arg-type] # by name
        return Member(process=process, running=asyncio.create_task(process.pipeline.run()), parts=parts)

    async def _crash(self, member: Member) -> None:
        pipeline = member.pipeline
        recorder = pipeline._recorder
        held = [*pipeline._lanes.in_flight, *recorder._buffer.ended, *recorder._writing.ended]
        # Until the cancellation has reached everybody, a worker may begin with another one.
        pipeline._lanes.done = lambda delivery, **_options: held.append(delivery)  # type: ignore[method-assign]
        member.running.cancel()
        with suppress(asyncio.CancelledError):
            await member.running
        await member.parts.aclose()
        pairs = {self._pair(each.route_id, each.event.id) for each in held}
        # Handed over, and answered before the row of that was written.
        pairs |= {self._pair(each.attempt.route_id, each.attempt.event_id) for each in recorder._late._noted}
        outside = self._outside
        await outside.rows(
            "UPDATE hookledger.lease SET expires_at = '-infinity' WHERE owner = $1 RETURNING 1", member.owner
        )
        await outside.rows("DELETE FROM hookledger.process WHERE owner = $1 RETURNING 1", member.owner)
        # What it would still have recorded late: a request whose row is gone was recorded.
        late = await outside.rows(
            "WITH lost AS ("
            " UPDATE hookledger.retry SET due_at = '-infinity' WHERE holder = $1 RETURNING route_id, seq"
            ") SELECT lost.route_id, e.id FROM lost JOIN hookledger.domain_event e USING (seq)",
            member.owner,
        )
        self.excused.update(pairs | {self._pair(row["route_id"], row["id"]) for row in late})

    def _pair(self, route_id: UUID, event_id: str) -> Pair:
        (number,) = [n for n, route in enumerate(self.routes) if route.route.id == route_id]
        return number, event_id

    def _answering(self, number: int):  # type: ignore[no-untyped-def] # noqa: ANN202 - receiver.Answerer
        async def answer(request: web.Request) -> web.StreamResponse:
            route = self.routes[number]
            arrival = Arrival(pair=(number, json.loads(await request.read())["id"]), at=time.monotonic())
            self.arrivals.append(arrival)
            place = len(self.arrivals)
            while (mode := route.mode.of_request(place)) is Mode.HANG:
                await route.changed.wait()
            if mode is Mode.OK:
                arrival.accepted_at = time.monotonic()
            else:
                arrival.is_failed = True
            return web.Response(status=500 if arrival.is_failed else 204)

        return answer

    # ---- Checks

    def check_memory(self) -> None:
        """In each process lanes, pools, ledger and working set agree, and nothing is held that nobody works on."""
        for member in (*self.members, *self.leaving):
            if member.running.done() and not member.running.cancelled():
                member.running.result()  # raises what ended it
            assert_memory_agrees(member.pipeline)

    async def _unsettled(self) -> dict[str, object]:
        """What still waits; empty if nothing does."""
        found: dict[str, object] = {}
        for table in ("retry", "parked"):
            if rows := await self._any.rows(f"SELECT * FROM hookledger.{table} WHERE tenant = $1", self.tenant):
                found[table] = len(rows)
        ids = [route.route.id for route in self.routes]
        if ranges := await self._any.rows("SELECT * FROM hookledger.parked_range WHERE route_id = ANY($1)", ids):
            found["parked_range"] = ranges
        ended = {pair for pair, words in (await self._outcomes()).items() if set(words) - {"retrying"}}
        if unended := sorted(self.due.keys() - ended):
            found["pairs"] = unended
        return found

    async def _outcomes(self) -> dict[Pair, list[str]]:
        rows = await self._any.rows(
            "SELECT route_id, event_id, outcome, number FROM hookledger.attempt WHERE tenant = $1 ORDER BY at, number",
            self.tenant,
        )
        found: defaultdict[Pair, list[str]] = defaultdict(list)
        for row in rows:
            found[self._pair(row["route_id"], row["event_id"])].append(row["outcome"])
        return found

    async def check(self) -> None:
        """Compares the tables and the receiver's log with the model, once everything has ended."""
        log = ReceiverLog(arrivals=self.arrivals, due=self.due, excused=self.excused, routes=self.routes)
        try:
            log.check(await self._outcomes())
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.describe()}") from failed
        for member in self.members:
            await until(lambda pipeline=member.pipeline: is_empty(pipeline))  # type: ignore[misc] # bound at once
            assert_memory_agrees(member.pipeline)

    def describe(self) -> str:
        """What the receiver saw, for a failed test."""
        first = min((arrival.at for arrival in self.arrivals), default=0.0)
        lines = [
            f"  {arrival.at - first:7.3f} {arrival.pair} "
            + ("failed" if arrival.is_failed else "open" if arrival.accepted_at is None else "accepted")
            for arrival in self.arrivals
        ]
        lanes = [
            f"  {member.owner} shards {member.pipeline.shards.held}: route {number} {lane.state} queue {len(lane.queue)}"
            f" due {len(lane.due)} in flight {lane.in_flight} failing {lane.failing} parked {lane.parked_pairs}"
            f" range {lane.range_from} breaker {lane.breaker.state}"
            for member in (*self.members, *self.leaving)
            for lane in member.pipeline._lanes
            for number, route in enumerate(self.routes)
            if route.route.id == lane.route_id
        ]
        return "\n".join(["arrivals:", *lines, "lanes:", *lanes])


@asynccontextmanager
async def world(database_url: str) -> AsyncIterator[World]:
    async with receiver() as there, pipeline_process(database_url, run=False) as outside:
        it = World(database_url, there, outside)
        try:
            yield it
        finally:
            await it.end()
