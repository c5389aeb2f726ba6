"""`hookledger event-types`: the catalogue, loaded from a file and listed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

from daemon import catalogue
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.store import config_option, settings, with_store
from daemon.core.events.catalogue import TypeDraft, group_of
from daemon.web.api.events.catalogue import of_replacement, of_type
from daemon.web.forms.catalogue_forms import drafts_of
from daemon.web.http.problems import Problem
from eventstore.domain_events import catalogue as store
from eventstore.domain_events.catalogue import ListedType
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import VersionConflict

_PAGE_TYPES = 200
_MOST_NAMED = 10


@click.group("event-types")
def event_types() -> None:
    """Load and list the catalogue of event types."""


@event_types.command("load")
@click.argument("file", type=click.File("rb"), required=False, metavar="[FILE|-]")
@click.option("--sample", is_flag=True, help="Load the types of a subscription shop, to try things out.")
@click.option("--yes", is_flag=True, help="Do not ask, though types of the catalogue go.")
@config_option
@output.json_option
def load(file: BinaryIO | None, sample: bool, yes: bool, config_file: Path | None, as_json: bool) -> None:
    """Make the types in a JSON file the whole catalogue.

    The file is as in PUT /v1/event-types: a list of {"name", "description", "example": {"data", "context",
    "snapshot"}}, as `list --json` prints it, or an object that has this list as "event_types". If anything in the file
    is wrong, nothing changes.
    If types of the present catalogue are not in it, it asks first, unless there is --yes.
    """
    if (file is None) != sample:
        raise click.UsageError("give a file, or --sample: one of them")
    drafts = _drafts(catalogue.sample_types() if file is None else file.read())

    config = settings(config_file)
    edition, rows = with_store(config, store.entries)
    changes = catalogue.difference(rows, drafts)
    if changes.removed and not yes:
        _confirm_removal(changes.removed, may_ask=file is None or file.name != sys.stdin.name)

    async def work(database: Database) -> None:
        await catalogue.replace(database, drafts, edition=edition)

    try:
        with_store(config, work)
    except VersionConflict as error:
        raise CliError("the catalogue was changed by somebody else meanwhile", hint="repeat the command") from error
    counts = of_replacement(drafts, changes)
    if as_json:
        output.document(counts)
    else:
        click.echo(
            f"the catalogue has {counts['event_types']:,} event types now: {counts['added']:,} added, "
            f"{counts['changed']:,} changed, {counts['removed']:,} removed"
        )


@event_types.command("list")
@click.option("--group", metavar="G", help="Only types of this group: order for order.create.")
@config_option
@output.json_option
def list_event_types(group: str | None, config_file: Path | None, as_json: bool) -> None:
    """List the types of the catalogue, and those that events had though they are not in it."""

    async def work(database: Database) -> list[ListedType]:
        types: list[ListedType] = []
        while page := await store.listed(
            database, after=types[-1].name if types else "", limit=_PAGE_TYPES, group=group
        ):
            types += page
        return types

    types = with_store(settings(config_file), work)
    if as_json:
        output.document([of_type(each) for each in types])
        return
    of_group = None if group is None else f"no event type is of the group {group}: hookledger event-types list has all"
    output.table(
        ("name", "group", "in the catalogue", "description"),
        [(each.name, group_of(each.name), each.example is not None, each.description) for each in types],
        empty=of_group or "the catalogue is empty: hookledger event-types load FILE",
    )


def _confirm_removal(names: Sequence[str], *, may_ask: bool) -> None:
    """Asks whether these types may go. Raises CliError if they may not, or if it cannot be asked."""
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    types = "1 event type is" if len(names) == 1 else f"{len(names):,} event types are"
    output.note(f"{types} not in this list, and would go: {', '.join(names[:_MOST_NAMED])}{more}")
    if not may_ask:
        raise CliError("nothing was changed", hint="pass --yes: the list came by the standard input")
    if output.ask("Type REPLACE to replace the catalogue") != "REPLACE":
        raise CliError("nothing was changed", hint="type REPLACE in capitals, or pass --yes")


def _drafts(text: bytes) -> list[TypeDraft]:
    """The entries of a catalogue file. Raises CliError if it has no list, Invalid if an entry is wrong."""
    try:
        return drafts_of(text)
    except Problem as error:
        message = error.detail.replace("the body", "the file", 1)
        raise CliError(message, hint="see hookledger event-types load --help") from error
