"""CloudEvents 1.0, read as domain events: what https://github.com/cloudevents/spec calls the JSON format, and the HTTP
binding's headers (`ce-id`, `ce-type` …).

A CloudEvent becomes the text of an event as `daemon.core.events.event` takes it, and is checked there like any other.
`type`, `id` and `time` say the same in both. The tenant is the extension attribute `tenant`; without it, it is the
token's, or else the `subject`. All other attributes stand in `context` under their names, `source` first of all.

`data` must be an object here. What is none (CloudEvents may carry a text, a number, XML, bytes or nothing) is enclosed
in one: `{"data": …}`, `{"data_base64": "…"}`, `{}`. JSON keeps its bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from daemon.core.events import raw_json
from daemon.core.events.event import MAX_TEXT_CHARACTERS, FieldProblem

# How the headers of the binary mode begin.
HEADER_PREFIX = "ce-"
SPEC_VERSION = "1.0"

# Attributes that become a field of the event, with the name of that field. A problem names the attribute.
_FIELD_OF = {"type": "type", "id": "id", "time": "occurred_at", "tenant": "tenant"}
_ATTRIBUTE_OF = {field: attribute for attribute, field in _FIELD_OF.items()}
_REQUIRED = ("id", "source", "type")
# What else the specification has: each is a string, and not empty.
_TEXTS = ("subject", "time", "datacontenttype", "dataschema")

_NAME = re.compile(r"[a-z0-9]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_JSON_TYPE = re.compile(r"[^/]+/(?:[^/+]+\+)*json", re.IGNORECASE)
_TEXT_TYPE = re.compile(r"text/.+|[^/]+/(?:[^/+]+\+)*xml", re.IGNORECASE)
# The signs of the JSON texts of attributes: strings, integers, true and false.
_IS_ATTRIBUTE = re.compile(r'"|-?[0-9]+\Z|true\Z|false\Z').match
_MAX_NAMED = 10


class Converted(NamedTuple):
    """The text of an event, and the `source` and `id` by which CloudEvents tell two events apart."""

    text: bytes
    source: str
    id: str


class NotACloudEvent(ValueError):
    """`problems` has everything that is wrong, by the names of the attributes."""

    def __init__(self, *problems: FieldProblem) -> None:
        super().__init__("not a valid CloudEvent")
        self.problems = problems


def structured(raw: bytes, *, tenant: str | None = None) -> Converted:
    """A CloudEvent in the JSON format. `tenant` is that of the caller's token, if it is bound to one.

    Raises NotACloudEvent.
    """
    try:
        value = raw_json.loads(raw)
        raw_json.check_depth(value)
    except ValueError as error:
        raise _refused("", f"not valid JSON: {error}") from None
    except RecursionError:
        raise _refused("", "the JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise _refused("", 'a CloudEvent must be a JSON object, like {"specversion": "1.0", "id": "1", …}')
    members = raw_json.members(raw.decode())
    texts = dict(members)
    if len(texts) < len(members):
        repeated = [name for name, count in Counter(name for name, _ in members).items() if count > 1]
        raise NotACloudEvent(*(_problem(_shown(name), "is given more than once") for name in repeated[:_MAX_NAMED]))
    # null is as good as absent, except in `data`, where it is a value.
    data, encoded = texts.pop("data", None), texts.pop("data_base64", "null")
    attributes = {name: text for name, text in texts.items() if text != "null"}
    if encoded == "null":
        return _event(attributes, "{}" if data is None else _enclosed(data), tenant)
    if data is not None:
        raise _refused("data_base64", "must not be given beside data: send one of the two")
    try:
        body = base64.b64decode(value["data_base64"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _refused("data_base64", "must be bytes as Base64") from None
    return _event(attributes, _of_bytes(body, value.get("datacontenttype")), tenant)


def binary(headers: Mapping[str, str], body: bytes, *, content_type: str, tenant: str | None = None) -> Converted:
    """A CloudEvent whose attributes are `headers`, by their names without the prefix, and whose data is the body. The
    values are those that were meant: over HTTP `header_value` reads them.

    `content_type` is empty if the request has none. Raises NotACloudEvent.
    """
    attributes = {name: json.dumps(text) for name, text in headers.items()}
    if content_type:
        attributes["datacontenttype"] = json.dumps(content_type)
    return _event(attributes, _of_bytes(body, content_type or None) if body else "{}", tenant)


def elements(raw: bytes) -> Iterator[bytes]:
    """The texts of the events of a batch, one by one, so that the caller can pause in between. Each is JSON,
    but for NaN and Infinity. Raises ValueError with a reason if the whole is no array of JSON values.
    """
    try:
        for text in raw_json.scanned_elements(raw.removeprefix(raw_json.BYTE_ORDER_MARK).decode()):
            yield text.encode()
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("the text is not UTF-8") from None


def header_value(text: str) -> str:
    """What a header of HTTP says: in quotes or not, characters beyond printable ASCII percent-encoded as UTF-8."""
    if _QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return unquote(text, errors="replace")


def attribute_problem(problem: FieldProblem) -> FieldProblem:
    """A problem of the event, by the name that the producer knows."""
    return FieldProblem(field=_ATTRIBUTE_OF.get(problem.field, problem.field), message=problem.message)


def of_another_source(stored: bytes | None, source: object) -> FieldProblem | None:
    """What is wrong with a CloudEvent of a source whose id stands there already, with the context `stored`, if that is
    of another source; None if it is the same event again.
    """
    other = source_in(stored)
    if not isinstance(other, str) or other == source:
        return None
    message = (
        f"was used within 24 hours by another source, {_shown(other)}. It must be unique for the tenant here: put "
        "something of the source in front of it"
    )
    return _problem("id", message)


def source_in(context: bytes | None) -> object:
    """The source of the CloudEvent that has become an event with that context; None if it was none."""
    value = None if context is None else raw_json.loads(context)
    return value.get("source") if isinstance(value, dict) else None


def _event(attributes: Mapping[str, str], data: str, tenant: str | None) -> Converted:
    """The event of attributes, given as JSON texts. Raises NotACloudEvent."""
    problems = [*_problems(attributes)]
    if problems:
        raise NotACloudEvent(*problems[:_MAX_NAMED])
    fields = {_FIELD_OF[name]: text for name, text in attributes.items() if name in _FIELD_OF}
    used = {"specversion", *_FIELD_OF}
    if "tenant" not in fields and tenant is None and "subject" in attributes:
        fields["tenant"] = attributes["subject"]
        used.add("subject")
    others = {name: text for name, text in attributes.items() if name not in used}
    fields |= {"data": data, "context": _object({"source": others.pop("source"), **others})}
    return Converted(_object(fields).encode(), json.loads(attributes["source"]), json.loads(attributes["id"]))


def _problems(attributes: Mapping[str, str]) -> Iterator[FieldProblem]:
    version = attributes.get("specversion")
    if version is None:
        yield _problem("specversion", f"is missing: CloudEvents {SPEC_VERSION} are taken")
    elif version != f'"{SPEC_VERSION}"':
        yield _problem("specversion", f'must be "{SPEC_VERSION}": no other version of CloudEvents is taken')
    for name in _REQUIRED:
        if name not in attributes:
            yield _problem(name, "is missing: every CloudEvent has one")
    for name, text in attributes.items():
        if not _NAME.fullmatch(name):
            yield _problem(_shown(name), "is no name of an attribute: these have only a-z and 0-9")
        elif name == "specversion":
            continue
        elif not _IS_ATTRIBUTE(text):
            yield _problem(name, "must be a string, a whole number, true or false: put what is larger into data")
        elif text == '""' or (name in (*_REQUIRED, *_TEXTS) and not text.startswith('"')):
            yield _problem(name, "must be a string that is not empty")


def _of_bytes(body: bytes, content_type: object) -> str:
    """The text of `data` for bytes of a content type. Raises NotACloudEvent if they should be JSON and are none."""
    media = content_type.partition(";")[0].strip() if isinstance(content_type, str) else "application/json"
    if _JSON_TYPE.fullmatch(media):
        body = body.removeprefix(raw_json.BYTE_ORDER_MARK)
        try:
            raw_json.loads(body)
        except ValueError as error:
            raise _refused("data", f"is not valid JSON, as {media} says it were: {error}") from None
        return _enclosed(body.decode().strip(" \t\r\n"))
    if _TEXT_TYPE.fullmatch(media):
        try:
            return _object({"data": json.dumps(body.decode(), ensure_ascii=False)})
        except UnicodeDecodeError:
            pass  # in another encoding: its bytes say what it is
    return _object({"data_base64": json.dumps(base64.b64encode(body).decode())})


def _enclosed(data: str) -> str:
    return data if data.startswith("{") else _object({"data": data})


def _object(texts: Mapping[str, str]) -> str:
    return f"{{{','.join(f'{json.dumps(name)}:{text}' for name, text in texts.items())}}}"


def _shown(name: str) -> str:
    return name[:MAX_TEXT_CHARACTERS].encode(errors="replace").decode()  # it may have half a character


def _refused(attribute: str, message: str) -> NotACloudEvent:
    return NotACloudEvent(_problem(attribute, message))


def _problem(attribute: str, message: str) -> FieldProblem:
    return FieldProblem(field=attribute, message=message)
