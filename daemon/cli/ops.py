"""`hookledger migrate`, `config` and `healthcheck`: what an operator does around the daemon."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli import output
from daemon.cli.peer import get
from daemon.cli.store import config_option, settings, with_store
from daemon.config import Address, masked
from eventstore import schema

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


@click.command()
@click.option("--plan", is_flag=True, help="Say what would be done, and do nothing.")
@config_option
@output.json_option
def migrate(plan: bool, config_file: Path | None, as_json: bool) -> None:
    """Bring the database to the schema of this version.

    `run` does it too. Several may do it at once: a lock lets one work and the others wait. A newer schema is refused.
    """
    found = with_store(settings(config_file), schema.plan if plan else schema.migrate, check=False)
    if as_json:
        document = {"current": found.current, "target": found.target, "steps": found.steps, "done": not plan}
        output.document(document)
    elif not found.steps:
        click.echo(f"nothing to do: the schema is version {found.target}")
    else:
        verb = "would run" if plan else "ran"
        click.echo(f"{verb} {', '.join(found.steps)}: schema version {found.current} to {found.target}")


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
    near = Address(host=_EVERYWHERE.get(address.host, address.host), port=address.port)
    get(f"http://{near}/healthz")
    click.echo(f"the daemon at {near} is alive")
