"""JSON Schemas of the types of bodies: one for each type, under its name without `Shape`, shared by reference."""

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
_PAGE = re.compile(r"Page\[(?:.*\.)?(\w+)\]")


def of_types(types: Iterable[object]) -> tuple[dict[object, Schema], dict[str, Schema]]:
    """The schema of each type, mostly a reference, and the schemas that are referred to."""
    # Forms are what may come in, all else is what goes out: a default is always there then.
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


def schema_of(found: dict[object, Schema], kind: object) -> Schema:
    """Of what `of_types` has found, the schema of a type."""
    return found[_key(kind)]


def _key(kind: object) -> Hashable:
    """Types of the same text are the same: unions are new objects at each place."""
    return kind if isinstance(kind, type) else repr(kind)


def _is_form(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


class _Generator(GenerateJsonSchema):
    """Pydantic's, less noisy: no titles that repeat a name, no default where it is the same as leaving out."""

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


# An example of a schema, put together of the examples, defaults and first choices of its parts.

_PLAIN: dict[str, object] = {"string": "text", "integer": 0, "number": 0.0, "boolean": False, "null": None}


def example(schema: Mapping[str, object], definitions: Mapping[str, Schema]) -> object:
    """A value that the schema takes; of an object only what must be there."""
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
            return _PLAIN.get(kind)
        case _:
            return None
