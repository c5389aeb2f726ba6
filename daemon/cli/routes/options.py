"""The options that describe a route, for `create` and `edit`, and the draft or the changes made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TextIO, TypedDict, TypeVar

import click

from daemon.cli.console import parsing
from daemon.commands import Invalid
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.routing.route import PayloadOptions, Route

F = TypeVar("F", bound=Callable[..., object])


class RouteValues(TypedDict):
    """What click passes for `route_values`. None or () means that the option was not given."""

    name: str | None
    target_url: str | None
    event_types: tuple[str, ...]
    headers: tuple[str, ...]
    snapshot: tuple[str, ...]
    filter: str | None
    transform: str | None
    ordered: bool | None
    rate_limit: str | None


_OPTIONS = (
    click.option("--name", metavar="TEXT", help="A name to recognise it by."),
    click.option("--target-url", "--url", "target_url", metavar="URL", help="Where to send."),
    click.option(
        "--event-type",
        "-e",
        "event_types",
        multiple=True,
        metavar="TYPE",
        help="A type like order.create, all below a prefix like 'order.*' or 'a.b.*', or '*'; repeatable.",
    ),
    click.option("--header", "headers", multiple=True, metavar="'N: V'", help="A header of your own; repeatable."),
    click.option(
        "--snapshot",
        multiple=True,
        metavar="ENTITY[:FIELD,…]",
        help="Put an entity of the snapshot, or some of its fields, into the body; repeatable; none.",
    ),
    click.option("--filter", metavar="JMESPATH", help="Send only events for which it is true; none."),
    click.option("--transform", metavar="JMESPATH", help="Send its result on the body instead; none."),
    click.option("--ordered/--unordered", default=None, help="Send one after the other, in order."),
    click.option("--rate-limit", metavar="N", help="Requests per second at most, like 5 or 0.5; none."),
)


# The field of a problem, as the API has it → the option that gave the value.
_OPTION_OF_FIELD = {
    "tenant": "--tenant",
    "name": "--name",
    "target_url": "--target-url",
    "event_types": "--event-type",
    "headers": "--header",
    "payload.snapshot": "--snapshot",
    "payload.filter": "--filter",
    "payload.transform": "--transform",
    "ordered": "--ordered",
    "rate_limit_per_second": "--rate-limit",
    "verification_key": "--verification-key",
    "reason": "--reason",
}


@contextmanager
def named_as_options() -> Iterator[None]:
    """Names options in what is wrong with values, instead of the fields of the API: headers.Host is --header Host."""
    try:
        yield
    except Invalid as error:
        raise Invalid(tuple(replace(problem, field=_option_of(problem.field)) for problem in error.problems)) from error


def _option_of(field: str) -> str:
    for name, option in _OPTION_OF_FIELD.items():
        if field == name or field.startswith(f"{name}."):
            inside = field.removeprefix(name).removeprefix(".")  # a header, an entity, or a place in a list
            return option if inside.isdigit() else f"{option} {inside}".rstrip()
    return field


def key_options(command: F) -> F:
    """Adds --verification-key and --verification-key-file to a command."""
    text = click.option(
        "--verification-key",
        metavar="KEY",
        help="Keep a key that receivers have already: whsec_…, or any text. Other users may see it.",
    )
    file = click.option(
        "--verification-key-file",
        type=click.File("r", encoding="utf-8"),
        metavar="FILE|-",
        help="The same from a file, or - for standard input.",
    )
    return text(file(command))


def brought_key(text: str | None, file: TextIO | None) -> str | None:
    """The key of the key options, None if neither was given. Raises click.UsageError for both."""
    if text is not None and file is not None:
        raise click.UsageError("give --verification-key or --verification-key-file, not both")
    if file is None:
        return text
    try:
        return file.read().removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise click.UsageError("the file of --verification-key-file is no text in UTF-8") from error


def route_values(command: F) -> F:
    """Adds the options of RouteValues to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def draft_of(values: RouteValues, *, enabled: bool) -> RouteDraft:
    """The route that the options of `create` describe. Raises click.UsageError if a required one is missing."""
    required = (
        ("--name", values["name"]),
        ("--target-url", values["target_url"]),
        ("--event-type", values["event_types"]),
    )
    if missing := [option for option, value in required if not value]:
        raise click.UsageError(f"missing {', '.join(missing)}")
    return RouteDraft(
        name=values["name"] or "",
        target_url=values["target_url"] or "",
        event_types=values["event_types"],
        payload=PayloadOptions(
            snapshot=parsing.snapshot(values["snapshot"]),
            filter=parsing.expression(values["filter"]),
            transform=parsing.expression(values["transform"]),
        ),
        headers=parsing.headers(values["headers"]),
        ordered=bool(values["ordered"]),
        rate_limit_per_second=parsing.rate(values["rate_limit"]),
        enabled=enabled,
    )


def changes_of(values: RouteValues, route: Route, *, no_headers: bool) -> dict[str, object]:
    """The changes that the options of `edit` ask for. Lists are replaced as a whole; the word none clears a value."""
    changes: dict[str, object] = {
        name: value
        for name, value in (
            ("name", values["name"]),
            ("target_url", values["target_url"]),
            ("ordered", values["ordered"]),
        )
        if value is not None
    }
    if values["event_types"]:
        changes["event_types"] = values["event_types"]
    if values["headers"] or no_headers:
        changes["headers"] = parsing.headers(values["headers"])
    if values["rate_limit"] is not None:
        changes["rate_limit_per_second"] = parsing.rate(values["rate_limit"])
    payload = _changed_payload(values, route.config.payload)
    if payload != route.config.payload:
        changes["payload"] = payload
    return changes


def _changed_payload(values: RouteValues, payload: PayloadOptions) -> PayloadOptions:
    if values["snapshot"]:
        payload = replace(payload, snapshot=parsing.snapshot(values["snapshot"]))
    if values["filter"] is not None:
        payload = replace(payload, filter=parsing.expression(values["filter"]))
    if values["transform"] is not None:
        payload = replace(payload, transform=parsing.expression(values["transform"]))
    return payload
