"""JMESPath with numbers that are decimals: its literals, and the functions that look at a number's type.

jmespath knows Python's int and float. Here a number of an event or of an expression is an int or a PublishedNumber.
Sums are exact or fail; an average that does not end is rounded to 34 digits, or to as many as its sum has. A result
that is one of the arguments, as of max(), is that argument with its text.
"""

# ruff: noqa: SLF001 - jmespath has no public way to its tokens

from __future__ import annotations

import decimal
import re
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, TypeAlias

from jmespath import functions, lexer, parser
from jmespath.exceptions import JMESPathTypeError, ParseError
from jmespath.functions import signature
from jmespath.parser import ParsedResult

from daemon.core.webhook import json_values
from daemon.core.webhook.json_values import Json, PublishedNumber, integer

_Number: TypeAlias = "int | PublishedNumber"
_Untyped: TypeAlias = Any  # jmespath's parser, and what a function takes of any type

# Enough for every sum of prices, and for numbers of any sane exponent; a sum that needs more fails.
_DIGITS = 5_000
_AVERAGE_DIGITS = 34


def _context(digits: int, *traps: type[decimal.DecimalException]) -> Context:
    return Context(digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[InvalidOperation, Overflow, *traps])


_EXACT = _context(_DIGITS, Inexact)

_TOO_LARGE = "a number is too large to compute with"

_literal = re.compile(r"`((?:[^`\\]|\\.)*+)`", re.DOTALL).match
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?([eE][+-]?[0-9]++)?", re.ASCII)

_KINDS = {
    "int": "number", "PublishedNumber": "number",
    "str": "string", "PublishedText": "string",
    "list": "array", "PublishedList": "array",
    "dict": "object", "PublishedObject": "object",
    "bool": "boolean", "NoneType": "null", "_Expression": "expref",
}  # fmt: skip


class UncomputableNumber(ArithmeticError):
    """A result that is no finite number, or too long a one; the text says why."""


def compiled(expression: str) -> ParsedResult:
    """The syntax tree of an expression; its literals are read like events. Raises what jmespath.compile raises."""
    parse: _Untyped = _Parser()._do_parse  # type: ignore[attr-defined] # `parse` would cache, as our caller does
    tree: ParsedResult = parse(expression)
    return tree


class DecimalFunctions(functions.Functions):
    """The functions of JMESPath for the values of `json_values`."""

    def _convert_to_jmespath_type(self, type_name: str) -> str:
        return _KINDS.get(type_name, "unknown")

    def _type_check_single(self, current: object, types: Sequence[str], function_name: str) -> None:
        kind = _kind(current)
        if kind not in [name.partition("-")[0] for name in types]:
            raise JMESPathTypeError(function_name, current, kind, types)
        inner = [name.partition("-")[2] for name in types if "-" in name]
        if not inner or not isinstance(current, list) or not current:
            return
        allowed = _kind(current[0]) if _kind(current[0]) in inner else inner[0]
        if any(_KINDS.get(each.__name__) != allowed for each in set(map(type, current))):
            strange = next(element for element in current if _kind(element) != allowed)
            raise JMESPathTypeError(function_name, strange, _kind(strange), types)

    @signature({"types": ["number"]})
    def _func_abs(self, arg: _Number) -> _Number:
        return abs(arg) if isinstance(arg, int) else PublishedNumber.of(arg.text.removeprefix("-"))

    @signature({"types": ["array-number"]})
    def _func_avg(self, arg: list[_Number]) -> _Number | None:
        if not arg:
            return None
        total = _sum(arg)
        if not total.is_finite():
            raise UncomputableNumber(_TOO_LARGE)
        # A quotient that ends has at most so many digits more than the sum, as no list has 2 ** 20 numbers.
        digits = len(total.as_tuple().digits) + 20
        return _number(_context(max(digits, _AVERAGE_DIGITS)).divide(total, len(arg)))

    @signature({"types": ["number"]})
    def _func_ceil(self, arg: _Number) -> _Number:
        return _integral(arg, decimal.ROUND_CEILING)

    @signature({"types": ["array", "string"]}, {"types": []})
    def _func_contains(self, subject: list[Json] | str, search: _Untyped) -> bool:
        is_there: bool = search in subject
        return is_there and (isinstance(search, str) or any(json_values.equal(each, search) for each in subject))

    @signature({"types": ["number"]})
    def _func_floor(self, arg: _Number) -> _Number:
        return _integral(arg, decimal.ROUND_FLOOR)

    @signature({"types": ["array-number"]})
    def _func_sum(self, arg: list[_Number]) -> _Number:
        return _number(_sum(arg))

    @signature({"types": []})
    def _func_to_number(self, arg: Json) -> _Number | None:
        if isinstance(arg, str):
            found = _JSON_NUMBER.fullmatch(arg)
            if found is None:
                return None
            return integer(arg) if found.lastindex is None else PublishedNumber.of(arg)
        return None if isinstance(arg, bool) or not isinstance(arg, (int, PublishedNumber)) else arg

    @signature({"types": []})
    def _func_to_string(self, arg: Json) -> str:
        return arg if isinstance(arg, str) else json_values.compact(arg)

    @signature({"types": []})
    def _func_type(self, arg: object) -> str:
        return _kind(arg)


class _Parser(parser.Parser):
    def _parse(self, expression: str) -> ParsedResult:
        own: _Untyped = self
        own._tokens = [_with_its_literal(token, expression) for token in lexer.Lexer().tokenize(expression)]
        tree = own._expression(binding_power=0)
        if own._current_token() != "eof":
            token = own._lookahead_token(0)
            raise ParseError(token["start"], token["value"], token["type"], f"Unexpected token: {token['value']}")
        return ParsedResult(expression, tree)


def _with_its_literal(token: _Untyped, expression: str) -> _Untyped:
    """The token of a JSON literal with the value that `json_values` reads."""
    found = _literal(expression, token["start"]) if token["type"] == "literal" else None
    if found is None:
        return token
    try:
        return {**token, "value": json_values.read(found[1].replace("\\`", "`"))}
    except ValueError:
        return token  # a text without quotes, which jmespath takes for a string


def _kind(value: object) -> str:
    return _KINDS.get(type(value).__name__, "unknown")


def _sum(numbers: Sequence[_Number]) -> Decimal:
    total = Decimal(0)
    try:
        for number in numbers:
            total = _EXACT.add(total, number)
    except Inexact as error:
        raise UncomputableNumber(f"a sum needs more than {_DIGITS} digits") from error
    except InvalidOperation as error:
        raise UncomputableNumber(_TOO_LARGE) from error
    return total


def _number(value: Decimal) -> _Number:
    """A result as a number with a text."""
    if not value.is_finite():
        raise UncomputableNumber(_TOO_LARGE)
    text = str(value)
    return integer(text) if text.isdigit() else PublishedNumber.of(text)


def _integral(number: _Number, rounding: str) -> _Number:
    if isinstance(number, int):
        return number
    integral = number.to_integral_value(rounding)
    if integral == 0:
        return 0
    # With another exponent it was an integer already, perhaps one of a billion digits.
    return integer(str(integral)) if integral.as_tuple().exponent == 0 else number
