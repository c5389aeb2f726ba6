"""`hookledger keys`: the master key that seals all secrets, exchanged for another."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

import daemon.keys
from daemon.cli import output
from daemon.cli.failures import CliError
from daemon.cli.store import config_option, settings, with_store
from daemon.keys import MasterKeyInUse, Rewrapped
from daemon.store import vault_of
from eventstore.connect import Database


@click.group()
def keys() -> None:
    """Exchange the master key that seals all secrets."""


@keys.command("rewrap")
@config_option
@output.json_option
def rewrap(config_file: Path | None, as_json: bool) -> None:
    """Seal all secrets under the first key of signing.master_key.

    To exchange the master key: put the new one behind the old one in signing.master_key of every daemon, and restart
    them; all of them open it then. Put it first, and restart them again. Run this, beside them. When it is done, the
    old key can go. A single daemon can begin with the new key first. Without signing.master_key the old key is the
    content of master.key in the data directory.

    A daemon that does not seal with the new key yet is named, and nothing is done: it could not open what is sealed
    here. Interrupted, it may be run again.
    """
    config = settings(config_file)

    async def work(database: Database) -> Rewrapped:
        return await daemon.keys.rewrap(database, await asyncio.to_thread(vault_of, config))

    try:
        with output.working("sealing secrets"):
            done = with_store(config, work)
    except MasterKeyInUse as error:
        hint = "put the new key first in its signing.master_key, restart it, and run this again"
        raise CliError(str(error), hint=hint) from error
    if as_json:
        output.document(asdict(done))
        return
    click.echo(f"sealed {done.resealed:,} secrets anew, {done.current:,} were sealed under the first key already")
