"""`hookledger event-types`: the catalogue, loaded from a file and listed."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click
import orjson
from pydantic import ValidationError

from daemon import catalogue
from daemon.cli.console import output
from daemon.cli.console.failures import CliError
from daemon.cli.store import config_option, settings, with_store
from daemon.commands import Invalid
from daemon.core.events.catalogue import TypeDraft, group_of
from daemon.web.api.catalogue import of_type
from daemon.web.forms import validation_messages
from daemon.web.forms.catalogue_forms import CatalogueForm
from eventstore.domain_events import catalogue as store
from eventstore.domain_events.catalogue import ListedType
from eventstore.postgres.connect import Database

_PAGE_TYPES = 200


@click.group("event-types")
def event_types() -> None:
    """Load and list the catalogue of event types."""


@event_types.command("load")
@click.argument("file", type=click.File("rb"), required=False, metavar="[FILE|-]")
@click.option("--sample", is_flag=True, help="Load the types of a subscription shop, to try things out.")
@config_option
@output.json_option
def load(file: BinaryIO | None, sample: bool, config_file: Path | None, as_json: bool) -> None:
    """Make the types in a JSON file the whole catalogue.

    The file is as in PUT /v1/event-types: a list of {"name", "description", "example": {"data", "context",
    "snapshot"}}, or an object that has this list as "event_types". If anything in the file is wrong, nothing changes.
    """
    if (file is None) != sample:
        raise click.UsageError("give a file, or --sample: one of them")
    drafts = _drafts(catalogue.sample_types() if file is None else file.read())

    async def work(database: Database) -> None:
        await catalogue.replace(database, drafts)

    with_store(settings(config_file), work)
    if as_json:
        output.document({"event_types": len(drafts)})
    else:
        click.echo(f"the catalogue has {len(drafts)} event types now")


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
    output.table(
        ("name", "group", "in the catalogue", "description"),
        [(each.name, group_of(each.name), each.example is not None, each.description) for each in types],
        empty="the catalogue is empty: hookledger event-types load FILE",
    )


def _drafts(text: bytes) -> list[TypeDraft]:
    """The entries of a catalogue file. Raises CliError if it has no list, Invalid if an entry is wrong."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CliError(f"the file is not valid JSON: {error}") from error
    if isinstance(value, list):
        value = {"event_types": value}
    if not isinstance(value, dict):
        raise CliError("the file must be a JSON list of event types", hint="see hookledger event-types load --help")
    try:
        return CatalogueForm.model_validate(value).drafts()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise Invalid(tuple(validation_messages.field_problems(details, CatalogueForm))) from error
