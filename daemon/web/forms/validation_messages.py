"""pydantic's errors in our own words: the path of the field, what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from daemon.core.events.event import FieldProblem

# The search for a similar name takes time, and nobody reads a longer list.
MAX_PROBLEMS = 100

_SENTENCES = {
    "missing": "is missing",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "string_too_long": "is longer than {max_length} characters",
    "too_long": "has too many entries, {max_length} are allowed",
}

# Fields of a shown route that no request sets.
_READ_ONLY = ("id", "tenant", "version", "created_at", "updated_at", "windows", "key")
_STATUS = 'is not set here: POST …/disable and …/enable change it, and "enabled": false creates a route disabled'


def field_problems(details: Sequence[ErrorDetails], form: type[BaseModel]) -> list[FieldProblem]:
    """The first MAX_PROBLEMS errors, each as a sentence about a field."""
    return [
        FieldProblem(field=".".join(map(str, detail["loc"])), message=_message(detail, form))
        for detail in details[:MAX_PROBLEMS]
    ]


def _message(detail: ErrorDetails, form: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(str(detail["loc"][-1]), list(_known(form, detail["loc"][:-1])))
    sentence = _SENTENCES.get(detail["type"])
    return detail["msg"] if sentence is None else sentence.format_map(detail.get("ctx", {}))


def _unknown(name: str, known: Sequence[str]) -> str:
    is_route = "target_url" in known
    if is_route and name in ("enabled", "status"):
        return _STATUS
    if is_route and name in _READ_ONLY:
        return "is not a field of this request: Hookledger sets it"
    near = get_close_matches(name[:64], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"is not a field of this request: {hint}"


def _known(form: type[BaseModel], path: tuple[int | str, ...]) -> Iterable[str]:
    """The names of the fields of the form, or of the nested form that the path leads to."""
    for part in path:
        if isinstance(part, int):  # an index of a list, whose elements are all of the same form
            continue
        annotation = form.model_fields[str(part)].annotation
        types = getattr(annotation, "__args__", (annotation,))
        form = next(each for each in types if isinstance(each, type) and issubclass(each, BaseModel))
    return [field.alias or name for name, field in form.model_fields.items()]
