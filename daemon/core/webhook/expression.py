"""A merchant's JMESPath expressions: compiled once, evaluated within bounds.

JMESPath has no loops, but `[@,@] | [@,@] | …` doubles its value with each step, and `map` within `map` multiplies: an
expression of 4 KiB can need more than a day. So evaluation has a budget of steps. A step is one visit of a node of the
expression. An operation that runs in C (a comparison, a function, the flattening of a list) costs steps by the *weight*
of its values, which is their size as JSON text.

The one thing to know: whether an evaluation keeps its budget depends on the expression and the event alone. It does not
depend on time, on other routes or on where it runs, so a live decision and an audit agree. All filters of one event are
bounded by that budget times the number of routes. A `StepAllowance` is something else: what a place, such as the event
loop, will spend. Beyond it the same evaluation is begun again elsewhere, with the same result.

A value is a graph in which several paths may lead to one part. The weight counts a part once for each path, but is
computed by visiting each part once. So the cost of a value is known before the value is expanded. Nesting is bounded as
well: the result does not depend on the depth of the caller's stack.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter

from daemon.core.webhook import dialect, json_values
from daemon.core.webhook.json_values import Json, PublishedNumber

MAX_EXPRESSION_BYTES = 4096
MAX_BRACKETS = 100
MAX_REASON_CHARACTERS = 300

# A hundred nested operators: each is an object and a list of the syntax tree.
MAX_TREE_DEPTH = 200
MAX_VALUE_DEPTH = 300
# An expression and a value that are both as deep as may be take 900 frames. The interpreter allows 1,000 by default,
# with those of the caller: then who asks would be part of the decision.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 3_000))

# A step takes about 1 µs. A filter that reads each of the 3,000 lines of an event of 220 kB takes 22,000 of 32,000
# steps, a transform that gives all their fields new names 42,000 of 75,000; a filter over a usual event takes fewer
# than 200. These numbers are part of the decision: others would decide past events differently, and an audit says so.
FILTER_STEPS = 5_000
FILTER_BYTES_PER_STEP = 8
TRANSFORM_STEPS = 20_000
TRANSFORM_BYTES_PER_STEP = 4

# To compile so much of an expression takes up to three times as long as one step.
COMPILED_BYTES_PER_STEP = 3

# The parts of the trees of all expressions that are kept compiled: 40 MB at most. A usual filter has fifty.
MAX_KEPT_PARTS = 500_000

# Processing this much weight in C takes about as long as one step.
WEIGHT_PER_STEP = 16

# A loop over this many parts of a list or object takes about as long as one step.
PARTS_PER_STEP = 4

_FUNCTIONS = dialect.DecimalFunctions()
# jmespath's prefix of its errors; ours says the same.
_ERROR_PREFIX = re.compile(r"^(Invalid|Bad) jmespath expression: ", re.IGNORECASE)
_TAKE_A_REFERENCE = {"map", "sort_by", "min_by", "max_by"}
_ORDERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_EQUALITIES = {"eq": True, "ne": False}
_ZERO_STEP = "slice step cannot be zero"
_UNFIT = "a function or an operator cannot work with the values of this event"
_TOO_DEEP = "is nested too deeply"
_OVER_BUDGET = "it takes too many steps for an event of this size: choose fewer fields, or nest less"

_Node: TypeAlias = Any  # a dict of type, value and children, untyped in jmespath
_Value: TypeAlias = Any  # a JSON value, see json_values


class ExpressionError(ValueError):
    """An expression that is invalid, or fails on this input; `str()` is the reason to show to the merchant."""


class OverBudget(ExpressionError):
    """An evaluation takes more steps than its budget has."""

    def __init__(self) -> None:
        super().__init__(f"failed: {_OVER_BUDGET}")


class TooHeavy(Exception):
    """An evaluation takes more than the allowance of the place where it was tried; it may keep its budget elsewhere."""


@dataclass(slots=True)
class StepAllowance:
    """What a place spends on the expressions of one event: steps that are left, and the largest document it parses."""

    steps: int
    document_bytes: int

    def check_document(self, size_bytes: int) -> None:
        """Raises TooHeavy for a document that is not to be parsed here."""
        if size_bytes > self.document_bytes:
            raise TooHeavy

    def pay_compiling(self, expression: str) -> None:
        """Takes the steps that it costs to compile an expression. Raises TooHeavy if there are not so many."""
        self.steps -= len(expression) // COMPILED_BYTES_PER_STEP
        if self.steps < 0:
            self.steps = 0
            raise TooHeavy


def filter_steps(size_bytes: int) -> int:
    """The budget of a filter for an event whose text has `size_bytes` bytes."""
    return FILTER_STEPS + size_bytes // FILTER_BYTES_PER_STEP


def transform_steps(size_bytes: int) -> int:
    """The budget of a transform of a body of `size_bytes` bytes."""
    return TRANSFORM_STEPS + size_bytes // TRANSFORM_BYTES_PER_STEP


def problem(expression: str) -> str | None:
    """Why an expression is invalid, None if it compiles."""
    try:
        _compiled(expression)
    except ExpressionError as error:
        return str(error)
    return None


def only_picks(expression: str, *, allowance: StepAllowance | None = None) -> bool:
    """True if the result will be a part of the value, as of `data.object`. False for what is no expression.

    With an allowance raises TooHeavy if compiling takes more.
    """
    try:
        kind = _compiled(expression, allowance).parsed["type"]
    except ExpressionError:
        return False
    return kind in {"current", "field", "subexpression"}


def evaluate(expression: str, value: Json, *, steps: int, allowance: StepAllowance | None = None) -> Json:
    """The result of an expression for a value of `json_values`, within a budget of `steps`. Raises ExpressionError.

    The weight of the result is at most `WEIGHT_PER_STEP` times the budget. With an allowance, whose steps are taken
    from it, raises TooHeavy if it is used up before the budget is.
    """
    tree = _compiled(expression, allowance)
    available = steps if allowance is None else min(steps, allowance.steps)
    interpreter = _Interpreter(steps=available)
    try:
        result: Json = interpreter.visit(tree.parsed, value)
        interpreter.pay(result)
    except _StepsSpent:
        if available < steps:
            raise TooHeavy from None
        raise OverBudget from None
    except JMESPathError as error:
        raise ExpressionError(f"failed: {_reason(error)}") from error
    except RecursionError as error:
        raise ExpressionError("failed: a value is nested too deeply") from error
    except ExpressionError:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ExpressionError(f"failed: {_of_python(error)}") from error
    finally:
        if allowance is not None:
            allowance.steps -= min(available, interpreter.spent)
    return result


class _Compiled:
    """The expressions that were used last, compiled. One of 4 KiB may be a tree of 1.5 MB, and a merchant may have any
    number of them tried out: so they are bounded by the parts of their trees together.
    """

    def __init__(self) -> None:
        self._trees: dict[str, tuple[ParsedResult, int]] = {}  # the longest unused first
        self._parts = 0

    def __call__(self, expression: str, allowance: StepAllowance | None = None) -> ParsedResult:
        """The tree of an expression. Raises ExpressionError, and TooHeavy if compiling takes more than an allowance."""
        known = self._trees.pop(expression, None)
        if known is None:
            if allowance is not None:
                allowance.pay_compiling(expression)
            tree = _compile(expression)
            known = tree, _measure(tree.parsed)[1]
            self._parts += known[1]
            while self._trees and self._parts > MAX_KEPT_PARTS:
                self._parts -= self._trees.pop(next(iter(self._trees)))[1]
        self._trees[expression] = known
        return known[0]


_compiled = _Compiled()


def _compile(expression: str) -> ParsedResult:
    try:
        size_bytes = len(expression.encode())
    except UnicodeEncodeError as error:
        raise ExpressionError("has half a character (an unpaired surrogate), which is no text") from error
    if size_bytes > MAX_EXPRESSION_BYTES:
        raise ExpressionError(f"has more than {MAX_EXPRESSION_BYTES} bytes")
    if _brackets(expression) > MAX_BRACKETS:
        raise ExpressionError(_TOO_DEEP)
    try:
        tree = dialect.compiled(expression)
    except RecursionError as error:
        raise ExpressionError(_TOO_DEEP) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ExpressionError(f"is no JMESPath expression: {_reason(error)}") from error
    if _measure(tree.parsed)[0] > MAX_TREE_DEPTH:
        raise ExpressionError(_TOO_DEEP)
    if (misuse := _misuse(tree.parsed)) is not None:
        raise ExpressionError(misuse)
    return tree


class _StepsSpent(Exception):
    """The interpreter has used up its steps. It is no ValueError, which an expression may cause in other ways."""


class _Interpreter(TreeInterpreter):
    """jmespath's interpreter with a budget; one for each evaluation."""

    def __init__(self, *, steps: int) -> None:
        super().__init__()
        self._budget = self._steps = steps
        self._methods: dict[str, Callable[[_Node, _Value], _Value]] = {}
        # By id(): weight, depth, and the part itself, which keeps the id from being reused.
        self._weighed: dict[int, tuple[int, int, object]] = {}

    @property
    def spent(self) -> int:
        """The steps that were taken, with those of the operation that was too much."""
        return self._budget - self._steps

    def visit(self, node: _Node, value: _Value) -> _Value:
        self._steps -= 1
        if self._steps < 0:
            self._spend(0)
        kind = node["type"]
        method = self._methods.get(kind)
        if method is None:
            method = self._methods[kind] = getattr(self, f"visit_{kind}")
        return method(node, value)

    def visit_comparator(self, node: _Node, value: _Value) -> _Value:
        operands = [self.pay(self.visit(child, value)) for child in node["children"]]
        if node["value"] in _EQUALITIES:
            return json_values.equal(*operands) is _EQUALITIES[node["value"]]
        if node["value"] in _ORDERS and sum(isinstance(each, str) for each in operands) == 1:
            self._check_ordered(node["value"], operands)
        return super().visit_comparator(_applied(node, operands), value)

    def visit_flatten(self, node: _Node, value: _Value) -> _Value:
        base = self.visit(node["children"][0], value)
        if isinstance(base, list):
            parts = sum(len(element) if isinstance(element, list) else 1 for element in base)
            self._spend(parts // PARTS_PER_STEP)
        return super().visit_flatten(_applied(node, [base]), value)

    def visit_function_expression(self, node: _Node, value: _Value) -> _Value:
        name, children = node["value"], node["children"]
        arguments = [self.visit(child, value) for child in children]
        for child, argument in zip(children, arguments, strict=True):
            if isinstance(argument, list):
                self._spend(len(argument) // PARTS_PER_STEP)  # its elements' types are checked in Python
            if child["type"] != "expref" or name not in _TAKE_A_REFERENCE:
                self.pay(argument)
        if name == "join":
            self._pay_glue(arguments)
        result = _FUNCTIONS.call_function(name, arguments)
        return self.pay(result) if isinstance(result, PublishedNumber) else result  # `1e4999` + `1` has 5,000 digits

    def pay(self, value: _Value) -> _Value:
        """Spends the steps that reading all of the value costs, and returns the value."""
        self._spend(self._weigh(value)[0] // WEIGHT_PER_STEP)
        return value

    def _pay_glue(self, arguments: list[_Value]) -> None:
        """Spends what the text between the parts costs each time that it is repeated.

        The only product among the functions: ten thousand times ten thousand characters are in two small arguments.
        """
        glue, parts = arguments
        if isinstance(glue, str) and isinstance(parts, list):
            self._spend(len(glue) * len(parts) // WEIGHT_PER_STEP)

    def _check_ordered(self, operator: str, operands: list[_Value]) -> None:
        """Refuses a text beside a number. A text beside anything else has no order: that is null, as JMESPath says."""
        if all(each is None or isinstance(each, (str, bool, list, dict)) for each in operands):
            return
        raise ExpressionError(
            f"failed: {_ORDERS[operator]} compares a text with a number: make a number of the text with to_number(), "
            "or write the number as a text, in single quotes"
        )

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _StepsSpent

    def _weigh(self, value: _Value) -> tuple[int, int]:
        """Weight and depth. The weight is at most the number of characters of the value as JSON."""
        if isinstance(value, str):
            return len(value), 0
        if isinstance(value, int):
            return 1 + (value.bit_length() >> 5), 0
        if value is None:
            return 1, 0
        if isinstance(value, PublishedNumber):
            return len(value.text), 0
        if not isinstance(value, (list, dict)):
            raise ExpressionError("failed: an expression reference (&) is no value")
        known = self._weighed.get(id(value))
        if known is None:
            known = self._weighed[id(value)] = (*self._weigh_container(value), value)
        return known[0], known[1]

    def _weigh_container(self, value: list[_Value] | dict[str, _Value]) -> tuple[int, int]:
        self._spend(len(value) // PARTS_PER_STEP)
        weight, depth = 2, 0
        for part in value.values() if isinstance(value, dict) else value:
            part_weight, part_depth = self._weigh(part)
            weight += part_weight
            depth = max(depth, part_depth)
        if isinstance(value, dict):
            weight += sum(map(len, value))
        if depth >= MAX_VALUE_DEPTH:
            raise RecursionError
        return weight, depth + 1


def _applied(node: _Node, operands: list[_Value]) -> _Node:
    """The node with its operands replaced by their values."""
    return {**node, "children": [{"type": "literal", "value": operand, "children": []} for operand in operands]}


def _brackets(expression: str) -> int:
    """The deepest nesting of brackets. Brackets within quotes count too, which only makes the limit stricter."""
    deepest = depth = 0
    for character in expression:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _measure(tree: _Node) -> tuple[int, int]:
    """The nesting depth of lists and objects in a syntax tree, its literals included, and how many parts it has."""
    depth, parts, level = -1, 0, [tree]
    while level:
        depth += 1
        parts += len(level)
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [part for whole in inner for part in whole]
    return depth, parts


def _misuse(tree: _Node) -> str | None:
    """The first call of an unknown function or with a wrong number of arguments, as a message; None if there is none.

    jmespath itself would fail only at the call, which may happen for some events and not for others.
    """
    level = [tree]
    while level:
        for node in level:
            if node["type"] != "function_expression":
                continue
            name, given = node["value"], len(node["children"])
            known = _FUNCTIONS.FUNCTION_TABLE.get(name)
            if known is None:
                near = get_close_matches(name, _FUNCTIONS.FUNCTION_TABLE, n=1)
                hint = f": did you mean {near[0]}()?" if near else ""
                return f"calls {name[:64]}(), which is no function of JMESPath{hint}"
            arity, is_variadic = len(known["signature"]), bool(known["signature"][-1].get("variadic"))
            if given < arity or (given > arity and not is_variadic):
                return f"calls {name}() with {given} arguments, and it takes {'at least ' * is_variadic}{arity}"
        level = [child for node in level for child in node["children"] if isinstance(child, dict)]
    return None


def _of_python(error: Exception) -> str:
    """An error in the words of JMESPath: those of Python are about other types, and may quote the values."""
    if isinstance(error, dialect.UncomputableNumber):
        return str(error)
    return _ZERO_STEP if "slice step" in str(error) else _UNFIT


def _reason(error: Exception) -> str:
    """The error in one line, without the value that caused it: the value is the producer's data, and may be long."""
    if isinstance(error, JMESPathTypeError):
        expected = " or ".join(error.expected_types)
        return f"In function {error.function_name}(), expected {expected}, received {error.actual_type}"
    first = (str(error).splitlines() or [""])[0]
    return _ERROR_PREFIX.sub("", first.removesuffix(", for expression:").removesuffix(":"))[:MAX_REASON_CHARACTERS]
