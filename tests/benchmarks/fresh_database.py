"""The database of benchmarks: an embedded PostgreSQL with a fresh schema, in a temporary directory."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from eventstore import embedded
from eventstore.postgres import schema
from eventstore.postgres.connect import Database


@asynccontextmanager
async def fresh_database() -> AsyncIterator[str]:
    """Runs a server until the end of the block. Yields the URL of a migrated database."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-benchmark-"))
    server = embedded.start(data_dir)
    try:
        database = Database(server.url)
        await database.open()
        await schema.migrate(database)
        await database.close()
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(data_dir)
