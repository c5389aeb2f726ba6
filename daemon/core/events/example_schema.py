"""The JSON Schema that an example has: what a reader of the catalogue may rely on, as far as one example can tell.

Pure. Nothing is required, and no other member is forbidden: an example shows what there may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

ExampleSchema = dict[str, object]

# Deeper values are of any type: nobody reads a deeper schema.
MAX_DEPTH = 12


def schema_of(value: object, *, depth: int = 0) -> ExampleSchema:  # noqa: PLR0911 - a table, read from top to bottom
    """The schema of a parsed JSON value."""
    match value:
        case _ if depth == MAX_DEPTH:
            return {}
        case Mapping():
            members = {str(name): schema_of(member, depth=depth + 1) for name, member in value.items()}
            return {"type": "object", "properties": members} if members else {"type": "object"}
        case str():
            return {"type": "string"}
        case Sequence():
            items = [schema_of(each, depth=depth + 1) for each in value]
            return {"type": "array", "items": reduce(_either, items)} if items else {"type": "array"}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case None:
            return {"type": "null"}
        case _:
            return {"type": "number"}


def _either(one: ExampleSchema, other: ExampleSchema) -> ExampleSchema:
    """The schema of what is like the one or the other."""
    if one == other:
        return one
    types = sorted({*_types(one), *_types(other)})
    merged: ExampleSchema = {"type": types[0] if len(types) == 1 else types} if types else {}
    for name, merge in (("properties", _members), ("items", _either)):
        parts = [part for part in (one.get(name), other.get(name)) if isinstance(part, dict)]
        if parts:
            merged[name] = reduce(merge, parts)
    return merged


def _members(one: ExampleSchema, other: ExampleSchema) -> ExampleSchema:
    both = {name: schema for name, schema in one.items() if isinstance(schema, dict)}
    for name, schema in other.items():
        if isinstance(schema, dict):
            both[name] = _either(both[name], schema) if name in both else schema
    return dict(both)


def _types(schema: ExampleSchema) -> list[str]:
    match schema.get("type"):
        case str(name):
            return [name]
        case list(names):
            return [str(name) for name in names]
        case _:
            return []
