"""Copies a database to another cluster by pg_dump and pg_restore, with the binaries of the embedded server."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore import embedded
from eventstore.embedded.paths import prepare


@contextmanager
def restored_elsewhere(url: str) -> Iterator[str]:
    """The URL of a copy of the database in a temporary cluster."""
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-restored-"))
    try:
        server = embedded.start(data_dir)
        try:
            binaries = prepare(data_dir).binaries
            dump, psql, restore = (str(binaries / name) for name in ("pg_dump", "psql", "pg_restore"))
            dumped = subprocess.run([dump, "--format=custom", url], check=True, capture_output=True).stdout
            # Roles belong to the cluster: the dump refers to this one and does not create it.
            subprocess.run(
                [psql, "--quiet", "--command=CREATE ROLE hookledger_producer NOLOGIN", server.url], check=True
            )
            subprocess.run([restore, "--exit-on-error", f"--dbname={server.url}"], check=True, input=dumped)
            yield server.url
        finally:
            server.stop()
    finally:
        shutil.rmtree(data_dir)
