"""An operator's JMESPath expressions, which turn a message into the text of an event.

The one thing to know: the same message and expressions give the same text, wherever they are evaluated. What is only
picked is written as it was published. An expression has the budget of a transform of a webhook's body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.core.events import raw_json
from daemon.core.events.event import PAYLOAD
from daemon.core.messages.message import Mappable, NotJson
from daemon.core.webhook import expression, json_values
from daemon.core.webhook.expression import ExpressionError, StepAllowance
from daemon.core.webhook.json_values import Json, PublishedNumber, TooLong

# Below this a number is a time in seconds, from there on in milliseconds: in seconds it is the year 5138.
_LEAST_MILLISECONDS = 100_000_000_000

# What only picks a part of the value by names, which is the usual way to say what the payload is.
_OF_VALUE = re.compile(r"value((?:\.[A-Za-z_][A-Za-z0-9_]*)*)")


class MappingFailed(ValueError):
    """An expression failed, or what it made cannot be that field. `field` is whose expression it is."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageMapping:
    """The expressions by the field of the event that each makes. What `filter` is false of is passed over."""

    fields: Mapping[str, str]
    filter: str | None = None

    @property
    def needs_texts(self) -> bool:
        """Whether any part of the payload is picked otherwise than by names of the value."""
        picked = (text for name, text in self.fields.items() if name in PAYLOAD)
        return any(_OF_VALUE.fullmatch(text) is None and expression.only_picks(text) for text in picked)


def mapped(
    given: Mappable, mapping: MessageMapping, *, max_bytes: int, allowance: StepAllowance | None = None
) -> bytes | None:
    """The text of the event that a message is; None if the filter passes it over.

    Raises MappingFailed, and TooHeavy if it takes more than the allowance.
    """
    if allowance is not None:
        allowance.check_document(given.size_bytes * (json_values.DOCUMENT_READS if mapping.needs_texts else 1))
    try:
        document, value = given.document()
    except NotJson as error:
        raise MappingFailed("", str(error)) from error
    evaluation = _Evaluation(document.decode(), value.decode(), max_bytes, allowance, has_texts=mapping.needs_texts)
    if mapping.filter is not None and not _is_true(evaluation.result("filter", mapping.filter)):
        return None
    texts = {name: evaluation.text(name, mapping.fields[name]) for name in mapping.fields}
    members = [f"{json.dumps(name)}:{text}" for name, text in texts.items() if text != "null"]
    try:
        return f"{{{','.join(members)}}}".encode()
    except UnicodeEncodeError as error:  # an unpaired surrogate (\ud800) that was not published as one
        raise MappingFailed("", "the expressions make a value that JSON cannot hold") from error


class _Evaluation:
    """The expressions of one message."""

    def __init__(
        self, document: str, value: str, max_bytes: int, allowance: StepAllowance | None, *, has_texts: bool
    ) -> None:
        self._document = document
        self._value = value
        self._max_bytes = max_bytes
        self._allowance = allowance
        self._steps = expression.transform_steps(len(document))
        self._has_texts = has_texts
        self._values = self._parsed()

    def _parsed(self) -> Json:
        try:
            return (json_values.document if self._has_texts else json_values.read)(self._document)
        except (ValueError, RecursionError) as error:
            raise MappingFailed("", "the message is nested too deeply for expressions") from error

    def result(self, field: str, text: str) -> Json:
        try:
            return expression.evaluate(text, self._values, steps=self._steps, allowance=self._allowance)
        except ExpressionError as error:
            raise MappingFailed(field, f"the expression {error}") from error

    def text(self, field: str, text: str) -> str:
        """The JSON text of a field."""
        if field not in PAYLOAD:
            return _scalar(field, self.result(field, text))
        if (names := _OF_VALUE.fullmatch(text)) is not None:
            return _picked(self._value, names[1].split(".")[1:])
        result = self.result(field, text)
        if not self._has_texts and json_values.needs_document(result, self._values, self._document):
            if self._allowance is not None:
                self._allowance.check_document(len(self._document) * json_values.DOCUMENT_READS)
            self._has_texts, self._allowance = True, None  # the allowance has paid for it already
            self._values = self._parsed()
            result = self.result(field, text)
        try:
            return json_values.written(result, max_characters=self._max_bytes)
        except TooLong as error:
            raise MappingFailed(field, f"it makes more than the {self._max_bytes} bytes that are allowed") from error


def _picked(value: str, names: Sequence[str]) -> str:
    """The text of the member of the member … of a value; null if there is none."""
    text = value.strip(" \t\r\n")
    for name in names:
        if not text.startswith("{"):
            return "null"
        text = dict(raw_json.members(text)).get(name, "null")
    return text


def _scalar(field: str, value: Json) -> str:
    """What `tenant`, `type` or `id` is as a text, and `occurred_at` as a time."""
    if isinstance(value, (bool, list, dict)):
        kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "true or false"
        raise MappingFailed(field, f"it makes {kind}, and must make a text")
    if value is None or isinstance(value, str):
        return json.dumps(value)
    number = str(value.text if isinstance(value, PublishedNumber) else value)
    if field != "occurred_at":
        return json.dumps(number)
    try:
        since = float(number)
        at = datetime.fromtimestamp(since / 1000 if abs(since) >= _LEAST_MILLISECONDS else since, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise MappingFailed(field, f"{number[:32]} is no time in seconds or milliseconds since 1970") from error
    return json.dumps(at.isoformat())


def _is_true(value: Json) -> bool:
    """What JMESPath calls true: not null, false, or an empty string, list or object."""
    return not (value is None or value is False or value in ("", [], {}))
