"""Databases that a test, or the tests of a folder, create on the server and drop afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

# Each connection learns of all partitions, and a clone has their files: with those of a week ahead a clone takes half as
# much again, and the first query of a connection twice the CPU time.
FEW_DAYS_AHEAD = 1

TodaysTemplate = Callable[[int], Awaitable[str]]  # of how many days ahead → the name of a template


@asynccontextmanager
async def temporary_database(
    administrator: asyncpg.Connection, purpose: str, *, template: str = "template1"
) -> AsyncIterator[str]:
    """Creates a database for the block, and yields its name."""
    name = f"hookledger_{purpose}_{uuid4().hex[:12]}"
    await administrator.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    try:
        yield name
    finally:
        await administrator.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def of_database(url: str, name: str) -> str:
    """The URL of another database with the same server and user."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
