"""`hookledger migrate`, `keys`, `config` and `healthcheck`: what an operator does around the daemon.

`config` reads the configuration only, and `healthcheck` asks the daemon over HTTP. `migrate` and `keys rewrap` open the
database. `keys rewrap` may run beside daemons; `migrate` may if it has nothing to do, else every daemon is stopped
first.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import daemon.credentials.keys
import daemon.store
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.peer import get
from daemon.cli.store import config_option, daemon_listen_option, settings, with_store
from daemon.config import ListenAddress, masked
from daemon.credentials.keys import MasterKeyInUse, Rewrapped
from daemon.store import open_vault
from eventstore.postgres import lineage, schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.postgres.lineage import RestoreSurvey
from eventstore.postgres.schema import Plan

_SAME_CLUSTER = ", and the database is in the cluster that it belongs to"
# A daemon that listens on every address is asked on loopback.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


@click.command()
@click.option("--plan", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--accept-restore", is_flag=True, help="Go on in another cluster, after a dump was restored or pg_upgrade."
)
@config_option
@output.json_option
def migrate(plan: bool, accept_restore: bool, config_file: Path | None, as_json: bool) -> None:
    """Bring the database to the schema of this version.

    `run` does it too. Several processes may do it at once: a lock lets one work while the others wait. A newer schema
    is refused. A schema from before version 8 takes the master key.

    `run` refuses a database that was moved into another PostgreSQL cluster. Stop every daemon and give
    --accept-restore once: then what was delivered after the dump was taken is delivered again.
    """
    own = settings(config_file)

    async def work(database: Database) -> tuple[Plan, RestoreSurvey | None]:
        migration = await (schema.plan(database) if plan else daemon.store.migrate(own, database))
        if not accept_restore and not plan:
            await _warn_of_restore(database)
        if not accept_restore or migration.current == 0:
            return migration, None
        return migration, await (lineage.survey if plan else lineage.begin)(database)

    migration, survey = with_store(own, work, check=False)
    if as_json:
        document: dict[str, object] = {
            "current": migration.current,
            "target": migration.target,
            "steps": migration.steps,
            "done": not plan,
        }
        if accept_restore:
            document["lineage"] = None if survey is None else asdict(survey)
        output.document(document)
        return
    if migration.steps:
        verb = "would run" if plan else "ran"
        click.echo(f"{verb} {', '.join(migration.steps)}: schema version {migration.current} to {migration.target}")
    elif survey is None:
        click.echo(f"nothing to do: the schema is version {migration.target}{_SAME_CLUSTER if accept_restore else ''}")
    if survey is not None:
        _print_survey(survey, plan=plan)


async def _warn_of_restore(database: Database) -> None:
    """Says so if `run` will refuse the database as one that was moved here."""
    try:
        await schema.check_cluster(database)
    except SchemaMismatch as error:
        output.note(f"warning: {error}: {error.hint}")


@click.group()
def keys() -> None:
    """Exchange the master key that seals all secrets."""


@keys.command("rewrap")
@config_option
@output.json_option
def rewrap(config_file: Path | None, as_json: bool) -> None:
    """Seal all secrets under the first key of signing.master_key.

    Tokens, sessions and login links are vouched for by that key as well, so that they go on without the old one.

    To exchange the master key: add the new one behind the old one in signing.master_key of every daemon, and restart
    them; then all of them open what it seals. Put the new one first, and restart them again. Run this beside them. When
    it is done, remove the old key. A single daemon can begin with the new key first. Without signing.master_key the old
    key is the content of master.key in the data directory.

    If a daemon does not seal with the new key yet, it is reported and nothing is done: it could not open what is sealed
    here. If the command is interrupted, run it again.
    """
    config = settings(config_file)

    async def work(database: Database) -> Rewrapped:
        return await daemon.credentials.keys.rewrap(database, await open_vault(config, database))

    try:
        with output.working("sealing secrets"):
            rewrapped = with_store(config, work)
    except MasterKeyInUse as error:
        hint = "put the new key first in its signing.master_key, restart it, and run this again"
        raise CliError(str(error), hint=hint) from error
    if as_json:
        output.document(asdict(rewrapped))
        return
    already = f"{rewrapped.current:,} were sealed under the first key already"
    click.echo(f"sealed {rewrapped.resealed:,} secrets again, {already}")


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
    """Check file and environment, naming every mistake; the database is not opened.

    Run it as the user of the daemon: it looks whether that user may write seal.anchor_file.
    """
    from daemon.sources.kafka.client import require

    if settings(config_file, for_daemon=True).sources:
        require()
    click.echo("the configuration is in order")


@click.command()
@daemon_listen_option
@config_option
def healthcheck(listen: str | None, config_file: Path | None) -> None:
    """Ask the daemon on this machine whether it is alive.

    Exits with 0 if it is and with 1 if not, for a container's health check.
    """
    server = settings(config_file, listen=listen).server
    address = server.ops_listen or server.listen
    local = ListenAddress(host=_LOOPBACK_OF.get(address.host, address.host), port=address.port)
    get(f"http://{local}/healthz")
    click.echo(f"the daemon at {local} is alive")


def _print_survey(survey: RestoreSurvey, *, plan: bool) -> None:
    click.echo(f"{'would begin' if plan else 'began'} a new lineage of ticks behind number {survey.newest_tick:,}")
    output.fields(
        [
            ("from cluster", survey.old_cluster),
            ("to cluster", survey.new_cluster),
            ("events done, not read again", f"{survey.read:,}"),
            ("events that will be read", f"{survey.unread:,}"),
            ("deliveries of those with an attempt, not made again", f"{survey.settled:,}"),
            ("deliveries waiting for their retry", f"{survey.retrying:,}"),
            ("deliveries parked", f"{survey.parked:,}"),
        ]
    )
    click.echo(
        "What was published, delivered or changed after the dump was taken is not in it and cannot be known here. "
        "Events of that time are missing. Deliveries that wait or will be made may have been made already: they are "
        "sent again under the same webhook-id, by which receivers recognise them."
    )
