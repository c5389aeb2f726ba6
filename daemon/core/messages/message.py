"""A message of Kafka, as its client gives it, and as the JSON document that expressions read.

`key` and the values of headers are texts there, or Base64 of what is no UTF-8; a key that is a JSON object or list is
one. `value` is the JSON that it holds, byte for byte. `timestamp` is a time as RFC 3339 writes it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson

from daemon.core.events import raw_json

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_CONTAINERS = (b"{", b"[")
# A longer key is a text, whatever it holds.
MAX_KEY_DOCUMENT_BYTES = 4096
_OF_A_SCHEMA_REGISTRY = b"\0"
_PLAIN_JSON = (
    ". It begins with a zero byte, as what serializers of a schema registry write: let the producer write plain JSON"
)


class SourceMessage(Protocol):
    """What we read of a message. `timestamp` is in milliseconds since 1970, negative or None without one."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappable:
    """A message for expressions: the members of its document but for the value, and the value as it was sent."""

    envelope: bytes
    value: bytes | None

    @property
    def size_bytes(self) -> int:
        return len(self.envelope) + len(self.value or b"")

    def document(self) -> tuple[bytes, bytes]:
        """The message as JSON, and its value as JSON. Raises NotJson."""
        value = value_json(self.value)
        return b'{"value":%s,%s}' % (value, self.envelope), value


class NotJson(ValueError):
    """The value of a message is no JSON; the text says why."""


def time_of(message: SourceMessage) -> datetime | None:
    """The timestamp of a message, None if it has none that is a time."""
    if message.timestamp is None or message.timestamp < 0:
        return None
    try:
        return _EPOCH + message.timestamp * _MILLISECOND
    except OverflowError:
        return None


def size_bytes(message: SourceMessage) -> int:
    """The bytes of key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in message.headers) if message.headers else 0
    return len(message.key or b"") + len(message.value or b"") + headers


def mappable(message: SourceMessage) -> Mappable:
    """The message for expressions."""
    at = time_of(message)
    envelope = b'"key":%s,"headers":%s,"topic":%s,"partition":%d,"offset":%d,"timestamp":%s' % (
        _key(message.key),
        orjson.dumps({name: None if value is None else _text(value) for name, value in message.headers}),
        orjson.dumps(message.topic),
        message.partition,
        message.offset,
        b"null" if at is None else orjson.dumps(at, option=orjson.OPT_UTC_Z),
    )
    return Mappable(envelope=envelope, value=message.value)


def value_json(value: bytes | None) -> bytes:
    """The JSON that a value holds; null if there is none. Raises NotJson."""
    if value is None:
        return b"null"
    value = value.removeprefix(raw_json.BYTE_ORDER_MARK)
    try:
        raw_json.check_depth(raw_json.loads(value))
    except RecursionError:
        raise NotJson("the JSON is nested too deeply") from None
    except ValueError as error:
        hint = _PLAIN_JSON if value.startswith(_OF_A_SCHEMA_REGISTRY) else ""
        raise NotJson(f"the value is not valid JSON: {error}{hint}") from None
    return value


def _key(key: bytes | None) -> bytes:
    if key is None:
        return b"null"
    if key.startswith(_CONTAINERS) and len(key) <= MAX_KEY_DOCUMENT_BYTES:
        try:
            return value_json(key)
        except NotJson:
            pass
    return orjson.dumps(_text(key))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()
