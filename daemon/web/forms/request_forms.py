"""The forms of request bodies, and how a body becomes one: pydantic reports all errors at once, each with a field.

Types are strict: "5" is not a number and 1 is not a boolean. The meaning of a value is checked by
`daemon.core.drafts.route_draft`, so that the command line reports the same errors. If some fields are malformed, the
meaning of the others is checked here all the same, so that the caller learns everything from one response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from daemon.commands import Invalid
from daemon.core import texts
from daemon.core.drafts.route_draft import RouteDraft, check
from daemon.core.events.event import FieldProblem, instant
from daemon.core.routing.route import PayloadOptions, snapshot_selection
from daemon.web.forms import form_schemas, validation_messages
from daemon.web.http.problems import Problem
from daemon.web.http.requests import bodies
from daemon.web.http.requests.turns import turn
from daemon.web.http.services import SERVICES, Services
from daemon.web.http.shapes import MASK

MAX_BODY_BYTES = 256 * 1024
MAX_ENTITIES = 100
# The largest form that can be right, a route that names types, entities and fields, has a thousand and a half.
MAX_VALUES = 10_000
# A list of a thousand wrong values takes 2 ms.
SHORT_BYTES = 1 << 10

# The raw body. Its hash tells whether a request is a repetition.
BODY = web.RequestKey("body", bytes)


def _instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a text")
    try:
        return instant(value)
    except ValueError as error:
        raise PydanticCustomError("instant", "{reason}", {"reason": str(error)}) from error


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


def _readable(value: str) -> str:
    if (problem := texts.problem(value, has_lines=True)) is not None:
        raise PydanticCustomError("text", "{problem}", {"problem": problem})
    return value


Text = Annotated[str, Field(max_length=8192)]
Instant = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema(form_schemas.INSTANT)]
HeaderValue = Annotated[Text, AfterValidator(_unmasked)]
Reason = Annotated[
    Annotated[str, Field(max_length=1000), AfterValidator(_readable)] | None, WithJsonSchema(form_schemas.REASON)
]
VerificationKeyField = Annotated[str | None, Field(repr=False), WithJsonSchema(form_schemas.VERIFICATION_KEY)]
Rate = Annotated[float | None, WithJsonSchema(form_schemas.RATE)]
SelectionField = Annotated[bool | list[str], PlainValidator(_selection), WithJsonSchema(form_schemas.SELECTION)]
ExpressionField = Annotated[Text | None, WithJsonSchema(form_schemas.EXPRESSION)]
Form = TypeVar("Form", bound="BaseForm")


class BaseForm(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def semantic_problems(cls, well_formed: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:  # noqa: ARG003
        """What is wrong with the values of the well-formed fields, in a body that has malformed fields too."""
        return ()


class Command(BaseForm):
    """A command without arguments."""

    model_config = ConfigDict(json_schema_extra={"examples": [form_schemas.COMMAND_EXAMPLE]})

    reason: Reason = None


class Rotation(Command):
    """`force` revokes a previous key whose grace period has not ended."""

    force: bool = False
    verification_key: VerificationKeyField = None


class PayloadForm(BaseForm):
    """Payload options. An entity of `snapshot` is true for all of it, or a list of fields."""

    snapshot: Annotated[dict[str, SelectionField], Field(max_length=MAX_ENTITIES)] | None = None
    filter: ExpressionField = None
    transform: ExpressionField = None

    def options(self) -> PayloadOptions:
        return PayloadOptions(snapshot=snapshot_selection(self.snapshot), filter=self.filter, transform=self.transform)

    def changes(self) -> dict[str, object]:
        """The options that were given, by name."""
        options = self.options()
        return {name: getattr(options, name) for name in self.model_fields_set}


class RouteEdit(BaseForm):
    """Changes of a route. An absent field keeps its value, also within `payload`."""

    model_config = ConfigDict(json_schema_extra={"examples": [form_schemas.ROUTE_EDIT_EXAMPLE]})

    name: Annotated[Text | None, WithJsonSchema(form_schemas.NAME)] = None
    target_url: Annotated[Text | None, WithJsonSchema(form_schemas.TARGET_URL)] = None
    event_types: Annotated[list[Text] | None, WithJsonSchema(form_schemas.EVENT_TYPES)] = None
    payload: PayloadForm = PayloadForm()
    headers: Annotated[dict[str, HeaderValue] | None, WithJsonSchema(form_schemas.HEADERS)] = None
    ordered: Annotated[bool | None, WithJsonSchema(form_schemas.ORDERED)] = None
    rate_limit_per_second: Rate = None
    reason: Reason = None

    @field_validator("name", "target_url", "event_types", "payload", "headers", "ordered", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "must not be null: leave it out to keep it as it is")
        return value

    @classmethod
    def semantic_problems(cls, well_formed: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:
        return _route_problems(well_formed, services)

    def changes(self) -> dict[str, object]:
        """The fields that were given, as `Commands.edit` takes them."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"reason"}}
        if self.event_types is not None:
            given["event_types"] = tuple(self.event_types)
        if "payload" in given:
            given["payload"] = self.payload.changes()
        return given


class NewRoute(BaseForm):
    """A new route."""

    model_config = ConfigDict(json_schema_extra={"examples": [form_schemas.NEW_ROUTE_EXAMPLE]})

    name: Annotated[Text, WithJsonSchema(form_schemas.NAME)]
    target_url: Annotated[Text, WithJsonSchema(form_schemas.TARGET_URL)]
    event_types: Annotated[list[Text], WithJsonSchema(form_schemas.EVENT_TYPES)]
    payload: PayloadForm = PayloadForm()
    headers: Annotated[dict[str, HeaderValue], WithJsonSchema(form_schemas.HEADERS)] = Field(default_factory=dict)
    ordered: Annotated[bool, WithJsonSchema(form_schemas.ORDERED)] = False
    rate_limit_per_second: Rate = None
    enabled: bool = True
    verification_key: VerificationKeyField = None
    reason: Reason = None

    @classmethod
    def semantic_problems(cls, well_formed: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:
        return _route_problems(well_formed, services)

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
            verification_key=self.verification_key,
        )


# Valid values, in place of malformed or missing fields while the others are checked.
_STAND_IN = {"name": "-", "target_url": "https://example.com/", "event_types": ["*"]}


async def read(
    request: web.Request,
    form: type[Form],
    *,
    max_bytes: int = MAX_BODY_BYTES,
    max_values: int = MAX_VALUES,
    bare: str | None = None,
    opaque: str | None = None,
) -> Form:
    """The body as `form`. An absent body is read as an empty object, and a list as the value of the field `bare`.

    The object in the field `opaque` is not read, see `bodies.parsed_object`.

    Raises Problem or Invalid.
    """
    raw = request[BODY] = await bodies.read(request, max_bytes=max_bytes)
    if raw and request.content_type != "application/json":
        raise Problem(415, "send the body as Content-Type: application/json")
    await turn(request, len(raw), short_bytes=SHORT_BYTES)
    value = bodies.parsed_object(raw, bare=bare, opaque=opaque, max_values=max_values) if raw else {}
    return validated(form, value, request.app[SERVICES])


def validated(form: type[Form], value: Mapping[str, object], services: Services) -> Form:
    """`value` as `form`. Raises Invalid with everything that is wrong with `value`."""
    try:
        return form.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems = validation_messages.field_problems(details, form)
        well_formed = _without(value, {detail["loc"][:2] for detail in details})
        raise Invalid((*problems, *form.semantic_problems(well_formed, services))) from error


def _route_problems(well_formed: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:
    """What is wrong with the values of a route's well-formed fields."""
    draft = NewRoute.model_validate({**_STAND_IN, **well_formed}).draft()
    config = services.config
    found = check(draft, tenant="-", policy=config.egress_policy, signing_header=config.signing.header)
    return [problem for problem in found if problem.field.partition(".")[0] in well_formed]


def _without(value: Mapping[str, object], paths: set[tuple[int | str, ...]]) -> dict[str, object]:
    """`value` without the members at `paths` of one or two names. A member that becomes empty is left out as well."""
    rest: dict[str, object] = {}
    for name, member in value.items():
        match member:
            case _ if (name,) in paths:
                continue
            case dict():
                kept: object = {key: part for key, part in member.items() if (name, key) not in paths}
            case list():
                kept = [part for number, part in enumerate(member) if (name, number) not in paths]
            case _:
                kept = member
        if kept or not member:
            rest[name] = kept
    return rest
