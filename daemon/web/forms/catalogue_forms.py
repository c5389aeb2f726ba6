"""The forms of the catalogue of event types, as they come over HTTP, from a file or from a page."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, ValidationError, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from daemon.commands import Invalid
from daemon.core.events import raw_json
from daemon.core.events.catalogue import MAX_DESCRIPTION_CHARACTERS, MAX_TYPES, TypeDraft, check
from daemon.core.events.event import MAX_TEXT_CHARACTERS, TYPE_PATTERN
from daemon.web.forms import validation_messages
from daemon.web.forms.request_forms import BaseForm, Text
from daemon.web.http.requests import bodies

_NAME = {
    "type": "string",
    "maxLength": MAX_TEXT_CHARACTERS,
    "pattern": f"^{TYPE_PATTERN}$",
    "description": "`object.action`; given once.",
    "examples": ["order.create"],
}
_GROUP = {
    "type": ["string", "null"],
    "description": "May be left out. If given, it must be the part of the name before the first dot.",
    "examples": ["order"],
}
_DESCRIPTION = {
    "type": ["string", "null"],
    "maxLength": MAX_DESCRIPTION_CHARACTERS,
    "pattern": r"^[^\x00]*$",
    "examples": ["An order is placed."],
}


class ExampleForm(BaseForm):
    """The payload of an example event, of which test events are made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": {"public_id": "7dc6"}, "snapshot": {"customer": {"name": "Ada"}}}]}
    )

    data: dict[str, object] = Field(default_factory=dict)
    context: dict[str, object] = Field(default_factory=dict)
    snapshot: dict[str, object] = Field(default_factory=dict)


class EventTypeForm(BaseForm):
    """A type of events, as it may stand in a list of them, too."""

    name: Annotated[Text, WithJsonSchema(_NAME)]
    group: Annotated[Text | None, WithJsonSchema(_GROUP)] = None
    description: Annotated[Text | None, WithJsonSchema(_DESCRIPTION)] = None
    example: ExampleForm | None = None
    is_catalogued: Annotated[bool, Field(description="If false, the type is left out.")] = True

    def draft(self) -> TypeDraft:
        example = self.example or ExampleForm()
        return TypeDraft(
            name=self.name, group=self.group, description=self.description or "", example=example.model_dump()
        )


class CatalogueForm(BaseForm):
    """The whole catalogue."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_types": [
                        {
                            "name": "order.create",
                            "description": "An order is placed.",
                            "example": {"data": {"public_id": "7dc6"}},
                        }
                    ]
                }
            ]
        }
    )

    event_types: Annotated[list[EventTypeForm], Field(max_length=MAX_TYPES)]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Adds that a bare list is accepted too, as a file of event types mostly is one."""
        reference = handler(schema)
        definition = handler.resolve_ref_schema(reference)
        definition |= definition["properties"]["event_types"] | {"type": ["object", "array"]}
        return reference

    def drafts(self) -> list[TypeDraft]:
        """The entries that are to be in the catalogue. Raises Invalid with all that is wrong with the values of any."""
        drafts = [each.draft() for each in self.event_types]
        if problems := check(drafts):
            raise Invalid(problems)
        return [draft for draft, each in zip(drafts, self.event_types, strict=True) if each.is_catalogued]


def drafts_of(text: bytes) -> list[TypeDraft]:
    """The types in a text of JSON, a list or an object with `event_types`, with or without a byte order mark.

    Raises Problem if it is no such text, and Invalid for what is wrong in it.
    """
    value = bodies.parsed_object(text.removeprefix(raw_json.BYTE_ORDER_MARK), bare="event_types")
    try:
        return CatalogueForm.model_validate(value).drafts()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise Invalid(tuple(validation_messages.field_problems(details, CatalogueForm))) from error
