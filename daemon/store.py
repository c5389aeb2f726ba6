"""Opens the database and the vault by the configuration, for the daemon and for each command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from daemon.config import Config
from daemon.keys import Vault, master_key_file
from eventstore import embedded
from eventstore.embedded import EmbeddedServer
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError

MASTER_KEY_FILE = "master.key"


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Database]:
    """An open database: the configured one, or the embedded PostgreSQL, which is started if it is not running.

    Does not check the schema. Raises StoreError.
    """
    server = None
    if config.database.url is None:
        server = await _start(config.database.data_dir)
        url = server.url
    else:
        url = config.database.url.reveal()
    try:
        database = Database(url, pool_size=config.database.pool_size)
        await database.open()
        try:
            yield database
        finally:
            await database.close()
    finally:
        if server is not None:
            await asyncio.to_thread(server.stop)


async def _start(data_dir: Path) -> EmbeddedServer:
    """Starts the embedded PostgreSQL in a thread. If it is cancelled meanwhile, it stops the server once that is up.

    Otherwise the thread would go on alone: it would leave a server that nobody stops, in a directory that may be gone.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(embedded.start, data_dir))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(StoreError):
            server = await starting
            await asyncio.to_thread(server.stop)
        raise


def vault_of(config: Config) -> Vault:
    """The vault under the configured master keys, or under the key file in the data directory, created if missing."""
    return Vault(config.signing.master_keys or [master_key_file(config.database.data_dir / MASTER_KEY_FILE)])
