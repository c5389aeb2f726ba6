"""`hookledger migrate`, `config` and `healthcheck`: what an operator does around the daemon."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

import daemon.keys
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.peer import get
from daemon.cli.store import config_option, settings, with_store
from daemon.config import ListenAddress, masked
from daemon.keys import MasterKeyInUse, Rewrapped
from daemon.store import vault_of
from eventstore.postgres import lineage, schema
from eventstore.postgres.connect import Database
from eventstore.postgres.lineage import RestoreSurvey
from eventstore.postgres.schema import Plan

_SAME_CLUSTER = ", and the database is in the cluster that it belongs to"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


@click.command()
@click.option("--plan", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--accept-restore", is_flag=True, help="Go on in another cluster, after a dump was restored or pg_upgrade."
)
@config_option
@output.json_option
def migrate(plan: bool, accept_restore: bool, config_file: Path | None, as_json: bool) -> None:
    """Bring the database to the schema of this version.

    `run` does it too. Several may do it at once: a lock lets one work and the others wait. A newer schema is refused.

    A database that came into another PostgreSQL cluster is refused by `run` until --accept-restore was given once, with
    every daemon stopped: what was delivered after the dump was taken is delivered again.
    """

    async def work(database: Database) -> tuple[Plan, RestoreSurvey | None]:
        found = await (schema.plan if plan else schema.migrate)(database)
        if not accept_restore or found.current == 0:
            return found, None
        return found, await (lineage.survey if plan else lineage.begin)(database)

    found, survey = with_store(settings(config_file), work, check=False)
    if as_json:
        document: dict[str, object] = {
            "current": found.current,
            "target": found.target,
            "steps": found.steps,
            "done": not plan,
        }
        if accept_restore:
            document["lineage"] = None if survey is None else asdict(survey)
        output.document(document)
        return
    if found.steps:
        verb = "would run" if plan else "ran"
        click.echo(f"{verb} {', '.join(found.steps)}: schema version {found.current} to {found.target}")
    elif survey is None:
        click.echo(f"nothing to do: the schema is version {found.target}{_SAME_CLUSTER if accept_restore else ''}")
    if survey is not None:
        _print_survey(survey, plan=plan)


@click.group()
def config() -> None:
    """Show or check the configuration."""


@config.command("show")
@config_option
@output.json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Show every key with its value; secrets are masked."""
    values = masked(settings(config_file))
    if as_json:
        output.document(values)
        return
    output.table(
        ("key", "value"),
        [(f"{section}.{key}", value) for section, keys in values.items() for key, value in keys.items()],
        empty="",
    )


@config.command("check")
@config_option
def check(config_file: Path | None) -> None:
    """Check file and environment, naming every mistake; the database is not asked."""
    settings(config_file)
    click.echo("the configuration is in order")


@click.command()
@config_option
def healthcheck(config_file: Path | None) -> None:
    """Ask the daemon on this machine whether it is alive.

    Exits with 0 if it is and with 1 if not, for a container's health check.
    """
    server = settings(config_file).server
    address = server.ops_listen or server.listen
    near = ListenAddress(host=_EVERYWHERE.get(address.host, address.host), port=address.port)
    get(f"http://{near}/healthz")
    click.echo(f"the daemon at {near} is alive")


def _print_survey(survey: RestoreSurvey, *, plan: bool) -> None:
    click.echo(f"{'would begin' if plan else 'began'} a new lineage of ticks behind number {survey.newest_tick:,}")
    output.fields(
        [
            ("from cluster", survey.old_cluster),
            ("to cluster", survey.new_cluster),
            ("events done, not read again", f"{survey.read:,}"),
            ("events that will be read", f"{survey.unread:,}"),
            ("deliveries of these with an attempt, not made anew", f"{survey.settled:,}"),
            ("deliveries waiting for their retry", f"{survey.retrying:,}"),
            ("deliveries parked", f"{survey.parked:,}"),
        ]
    )
    click.echo(
        "What was published, delivered or changed after the dump was taken is not in it and cannot be known here: such "
        "events are missing, and some deliveries that wait or will be made may have been made already. Those are sent "
        "again under the same webhook-id, by which receivers know them."
    )


# `hookledger keys`: the master key that seals all secrets, exchanged for another.


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
