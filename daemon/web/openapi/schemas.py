"""JSON Schemas and examples of the types of bodies. A schema has the name of its type without `Shape`."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from typing import cast

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import TypeForm

Schema = dict[str, object]

_REFERENCE = "#/components/schemas/{model}"

# Values for types without an example of their own.
_EXAMPLES: dict[str, object] = {"string": "text", "integer": 0, "number": 0.0, "boolean": False, "null": None}

# The name that pydantic gives to `paging.Page[XShape]`.
_PAGE = re.compile(r"Page\[(?:.*\.)?(\w+)\]")


def of_types(types: Iterable[object]) -> tuple[dict[object, Schema], dict[str, Schema]]:
    """The schema of each type, mostly a reference, and the definitions that are referred to."""
    # Forms describe input, all other types output. In output a field with a default is always present.
    inputs: list[tuple[Hashable, JsonSchemaMode, TypeAdapter[object]]] = [
        (_key(each), "validation" if _is_form(each) else "serialization", TypeAdapter(cast("TypeForm[object]", each)))
        for each in types
    ]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE, schema_generator=_Generator)
    definitions = cast("dict[str, Schema]", shared.get("$defs", {}))
    for definition in definitions.values():
        definition.pop("title", None)
        if "description" in definition:
            definition["description"] = " ".join(str(definition["description"]).split())
    return {key: cast("Schema", schema) for (key, _), schema in found.items()}, definitions


def schema_of(by_type: dict[object, Schema], body_type: object) -> Schema:
    """The schema of a type among those that `of_types` has returned."""
    return by_type[_key(body_type)]


def example(schema: Mapping[str, object], definitions: Mapping[str, Schema]) -> object:
    """A valid value, from the examples, defaults and first choices in the schema. Objects have required fields only."""
    match schema:
        case {"$ref": str(reference)}:
            return example(definitions[reference.rpartition("/")[2]], definitions)
        case {"examples": [first, *_]} | {"const": first} | {"enum": [first, *_]} | {"default": first}:
            return first
        case {"anyOf": [dict(first), *_]}:
            return example(first, definitions)
        case {"type": "object", "properties": dict(properties), "required": list(required)}:
            return {name: example(properties[name], definitions) for name in required}
        case {"type": "object"}:
            return {}
        case {"type": "array", "items": dict(items)}:
            return [example(items, definitions)]
        case {"type": "integer" | "number", "minimum": least}:
            return least
        case {"type": str(kind)}:
            return _EXAMPLES.get(kind)
        case _:
            return None


def _key(body_type: object) -> Hashable:
    """A key that is equal for equal types. Each use of a union is a new object, so its text is the key."""
    return body_type if isinstance(body_type, type) else repr(body_type)


def _is_form(body_type: object) -> bool:
    return isinstance(body_type, type) and issubclass(body_type, BaseModel)


class _Generator(GenerateJsonSchema):
    """pydantic's generator without redundant parts: titles that repeat a name, defaults that equal an absent field."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default", ...), BaseModel | None):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def normalize_name(self, name: str) -> str:
        page = _PAGE.fullmatch(name)
        plain = name if page is None else f"{page[1].removesuffix('Shape')}Page"
        return super().normalize_name(plain.removesuffix("Shape"))
