"""Connections for queries of many parties, of which none may take all: a bounded number at once for each, and in all.

A party has a claim of its own; a tenant is one. A query that gets no place within PATIENCE_SECONDS is refused
with Saturated, so that a crowd of slow queries is told at once instead of queueing up behind itself. The database is
one that limits statements: a server does not notice that a client has given up, and what was abandoned would keep it
busy beyond the number of places.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from eventstore.postgres.connect import DEADLINE_SECONDS, Database
from eventstore.postgres.errors import Saturated

# Longer than the queries of a page take, and short enough to wait for before an answer.
PATIENCE_SECONDS = 1.0

_HINT = "try again in a moment, and ask for shorter periods"


@dataclass(slots=True)
class _Party:
    """`users` counts those that have a place or wait for one."""

    places: asyncio.Semaphore
    users: int = 0


class FairShare:
    """Divides `places` among parties, `of_one` at most for each.

    `on_refused` is called for each refusal: with True if the party's own places are taken, with False if all are.
    """

    def __init__(
        self,
        *,
        places: int,
        of_one: int,
        on_refused: Callable[[bool], None] = lambda _is_own: None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._places = asyncio.Semaphore(places)
        self._of_one = of_one
        self._on_refused = on_refused
        self._patience_seconds = patience_seconds
        self._parties: dict[str, _Party] = {}

    @asynccontextmanager
    async def place(self, party: str) -> AsyncIterator[None]:
        """One of the party's places. Raises Saturated."""
        async with AsyncExitStack() as held:
            # Its own place first: who waits for that takes nothing from others.
            await self._take(held, self._own_place(party), is_own=True)
            await self._take(held, self._places, is_own=False)
            yield

    async def _take(self, held: AsyncExitStack, place: AbstractAsyncContextManager[None], *, is_own: bool) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await held.enter_async_context(place)
        except TimeoutError:
            self._on_refused(is_own)
            whose = "too many of your queries" if is_own else "too many queries of all"
            raise Saturated(f"{whose} are running at once", hint=_HINT) from None

    @asynccontextmanager
    async def _own_place(self, party: str) -> AsyncIterator[None]:
        own = self._parties.setdefault(party, _Party(asyncio.Semaphore(self._of_one)))
        own.users += 1
        try:
            async with own.places:
                yield
        finally:
            own.users -= 1
            if not own.users:
                del self._parties[party]


class QueryPool:
    """The connections of a database, shared by parties."""

    def __init__(self, database: Database, share: FairShare) -> None:
        self._database = database
        self._share = share

    def of(self, party: str) -> Database:
        """The database as this party may use it. Its connections raise Saturated."""
        return _PartyDatabase(self._database, self._share, party)


class _PartyDatabase(Database):
    """Uses the pool of `whole`, after it got a place for the party."""

    def __init__(self, whole: Database, share: FairShare, party: str) -> None:
        super().__init__(whole.url)
        self._whole = whole
        self._share = share
        self._party = party

    @asynccontextmanager
    async def connection(self, *, seconds: float = DEADLINE_SECONDS) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        async with self._share.place(self._party), self._whole.connection(seconds=seconds) as connection:
            yield connection
