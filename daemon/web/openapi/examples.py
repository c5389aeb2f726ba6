"""An example of a schema, put together of the examples, defaults and first choices of its parts."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.web.openapi.schemas import Schema

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
