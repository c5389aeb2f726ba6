"""A condition on one field of an event's data, as people write it: `data.object.public_id = 7dc6`.

The path is that of the webhook that a receiver gets, so it begins with `data.object`. A value is compared with the text
that was published: 19.90 is not 19.9.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_CHARACTERS = 512
MAX_STEPS = 10

_ROOT = ("data", "object")
_EXAMPLE = "data.object.public_id = 7dc6"

# Encoders write these as they are in every JSON text; others may be escapes.
_NEVER_ESCAPED = re.compile(r"[A-Za-z0-9 _.:,@+\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCondition:
    """The field at `steps` within the data of an event has this text. A number among the steps may be an index."""

    steps: tuple[str, ...]
    text: str

    @property
    def written(self) -> str:
        """The condition in the form that `parse` reads."""
        return f"{'.'.join((*_ROOT, *self.steps))} = {self.text}"

    @property
    def needles(self) -> tuple[bytes, ...]:
        """Every event that holds has one of these in its data, as published."""
        literal = self.text.encode()
        return (literal,) if _NEVER_ESCAPED.fullmatch(self.text) else (literal, b"\\")

    def holds(self, data: bytes) -> bool:
        """True if an event with this data, a JSON text, has the value there."""
        try:
            value: Any = json.loads(data, parse_int=_Published, parse_float=_Published, parse_constant=_Published)
        except (ValueError, RecursionError):
            return False
        for step in self.steps:
            match value:
                case dict() if step in value:
                    value = value[step]
                case list() if step.isascii() and step.isdigit() and len(step) < 6 and int(step) < len(value):
                    value = value[int(step)]
                case _:
                    return False
        match value:
            case bool():
                return self.text == ("true" if value else "false")
            case None:
                return self.text == "null"
            case str():
                return self.text == str(value)
            case _:
                return False


class _Published(str):
    """A number, as the text that was published."""

    __slots__ = ()


def parse(text: str) -> FieldCondition:
    """The condition that is written there. Raises ValueError with what is wrong."""
    path, equals, value = (part.strip() for part in text.partition("="))
    steps = tuple(path.split("."))
    if equals and all(steps) and steps[: len(_ROOT)] != _ROOT:
        raise ValueError(f"must begin with data.object, as the webhook has it: {_EXAMPLE}")
    if not equals or len(steps) <= len(_ROOT) or not all(steps):
        raise ValueError(f"must name a field and its value, like {_EXAMPLE}")
    if len(text) > MAX_CHARACTERS or len(steps) > len(_ROOT) + MAX_STEPS:
        raise ValueError(f"must have at most {MAX_CHARACTERS} characters, and {MAX_STEPS} names after data.object")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not value or "\0" in text:
        raise ValueError(f"must have a value after the equals sign, like {_EXAMPLE}")
    return FieldCondition(steps=steps[len(_ROOT) :], text=value)


def problem(text: str) -> str | None:
    """What is wrong with a condition, None if nothing is."""
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None
