"""Request bodies: pydantic at the door, all mistakes at once, each with the field's path and a sentence of our own.

Types are strict: "5" is no number and 1 is no truth value. What a value *means* is checked below, by
`daemon.core.draft`, so that the command line says the same; if some fields are malformed, the others are checked for
their meaning here, so that one round is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from daemon.commands import Invalid
from daemon.core.draft import RouteDraft, check
from daemon.core.event import Problem as FieldProblem
from daemon.core.route import PayloadOptions, snapshot_selection
from daemon.web import bodies, mistakes
from daemon.web.problems import Problem
from daemon.web.services import SERVICES, Services
from daemon.web.shapes import MASK

MAX_BODY_BYTES = 256 * 1024
MAX_ENTITIES = 100

# The body as it came, for whoever must recognise a repetition of the request.
BODY = web.RequestKey("body", bytes)


def _selection(value: object) -> bool | list[str]:
    match value:
        case bool():
            return value
        case list() if all(isinstance(name, str) for name in value):
            return value
    raise PydanticCustomError("selection", "must be true for the whole entity, or a list of its fields")


def _unmasked(value: str) -> str:
    if value == MASK:
        raise PydanticCustomError("mask", "stands for a hidden value: send the value itself, or leave headers out")
    return value


Text = Annotated[str, Field(max_length=8192)]
HeaderValue = Annotated[Text, AfterValidator(_unmasked)]
Reason = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] | None
Rate = float | None
Selection = Annotated[bool | list[str], PlainValidator(_selection)]
Form = TypeVar("Form", bound="_Form")


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Command(_Form):
    """A command that says no more than why."""

    reason: Reason = None


class Rotation(Command):
    """`force` cuts off a previous key whose grace has not ended."""

    force: bool = False


class Payload(_Form):
    """Payload options; an entity of `snapshot` is true for all of it, or a list of fields."""

    snapshot: Annotated[dict[str, Selection], Field(max_length=MAX_ENTITIES)] | None = None
    filter: Text | None = None
    transform: Text | None = None

    def options(self) -> PayloadOptions:
        return PayloadOptions(snapshot=snapshot_selection(self.snapshot), filter=self.filter, transform=self.transform)

    def changes(self) -> dict[str, object]:
        """The options that were given, by name."""
        options = self.options()
        return {name: getattr(options, name) for name in self.model_fields_set}


class RouteEdit(_Form):
    """What PATCH takes: a field that is absent stays as it is, also one of `payload`."""

    name: Text | None = None
    target_url: Text | None = None
    event_types: list[Text] | None = None
    payload: Payload | None = None
    headers: dict[str, HeaderValue] | None = None
    ordered: bool | None = None
    rate_limit_per_second: Rate = None
    reason: Reason = None

    @field_validator("name", "target_url", "event_types", "payload", "headers", "ordered", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "must not be null: leave it out to keep it as it is")
        return value

    def changes(self) -> dict[str, object]:
        """The fields that were given, as `Commands.edit` takes them."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"reason"}}
        if self.event_types is not None:
            given["event_types"] = tuple(self.event_types)
        if self.payload is not None:
            given["payload"] = self.payload.changes()
        return given


class NewRoute(_Form):
    """What POST takes."""

    name: Text
    target_url: Text
    event_types: list[Text]
    payload: Payload = Payload()
    headers: dict[str, HeaderValue] = Field(default_factory=dict)
    ordered: bool = False
    rate_limit_per_second: Rate = None
    enabled: bool = True
    reason: Reason = None

    def draft(self) -> RouteDraft:
        return RouteDraft(
            name=self.name,
            target_url=self.target_url,
            event_types=tuple(self.event_types),
            payload=self.payload.options(),
            headers=self.headers,
            ordered=self.ordered,
            rate_limit_per_second=self.rate_limit_per_second,
            enabled=self.enabled,
        )


# A valid route, for the fields that are missing or malformed while the others are checked.
_STAND_IN = {"name": "-", "target_url": "https://example.com/", "event_types": ["*"]}


async def read(request: web.Request, form: type[Form]) -> Form:
    """The body as `form`; an absent body is an empty object. Raises Problem or Invalid."""
    raw = request[BODY] = await bodies.read(request, most_bytes=MAX_BODY_BYTES)
    if raw and request.content_type != "application/json":
        raise Problem(415, "send the body as Content-Type: application/json")
    return validated(form, bodies.parsed_object(raw) if raw else {}, request.app[SERVICES])


def validated(form: type[Form], value: Mapping[str, object], services: Services) -> Form:
    """`value` as `form`. Raises Invalid with everything that is wrong with it."""
    try:
        return form.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems = mistakes.named(details, form)
        if form in (NewRoute, RouteEdit):
            problems += _wrong_in_meaning(value, details, services)
        raise Invalid(tuple(problems)) from error


def _wrong_in_meaning(
    value: Mapping[str, object], details: list[ErrorDetails], services: Services
) -> list[FieldProblem]:
    """What is wrong with the well-formed fields of a route of which others are malformed."""
    sound = _without(value, {detail["loc"][:2] for detail in details})
    draft = NewRoute.model_validate(_STAND_IN | sound).draft()
    config = services.config
    found = check(draft, tenant="-", policy=config.egress_policy, signing_header=config.signing.header)
    return [problem for problem in found if problem.field.partition(".")[0] in sound]


def _without(value: Mapping[str, object], places: set[tuple[int | str, ...]]) -> dict[str, object]:
    """`value` without the members, or the members' members, at `places`; what becomes empty goes."""
    sound: dict[str, object] = {}
    for name, member in value.items():
        match member:
            case _ if (name,) in places:
                continue
            case dict():
                kept: object = {key: part for key, part in member.items() if (name, key) not in places}
            case list():
                kept = [part for number, part in enumerate(member) if (name, number) not in places]
            case _:
                kept = member
        if kept or not member:
            sound[name] = kept
    return sound
