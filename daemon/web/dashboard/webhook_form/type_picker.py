"""The event types to choose from, by group: those of the catalogue, those seen in events, and those chosen already.

A page may have 100 kB, and a catalogue a thousand types with long descriptions. So the picker has a budget of bytes.
First descriptions are shortened. If that is not enough, types are searched by name, and the picker shows the types that
were found and those that are chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import escape

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES
from daemon.core.events import catalogue
from daemon.core.events.catalogue import group_of
from daemon.core.events.event import pattern_problem
from daemon.core.routing.index import ALL
from eventstore.domain_events.catalogue import OutlinedType

DESCRIPTION_CHARACTERS = 160
_LENGTHS = (DESCRIPTION_CHARACTERS, 80, 40)

# The budget of the picker, and the bytes that a group and a type take besides their names.
BUDGET_BYTES = 80_000
GROUP_BYTES = 700
TYPE_BYTES = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeChoice:
    """A type, or all types below a prefix, like `customer.subscription.*`.

    `is_chosen` if it is chosen by its name; `description` is None if it is not in the catalogue.
    """

    name: str
    description: str | None
    is_chosen: bool

    @property
    def below(self) -> str | None:
        """`customer.subscription` of `customer.subscription.*`, None for a type."""
        return self.name.removesuffix(".*") if self.name.endswith(".*") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeGroup:
    """A group. It has `count` types, of which the webhook would receive `chosen`; the picker shows `choices`."""

    name: str
    is_chosen: bool
    choices: tuple[TypeChoice, ...]
    count: int
    chosen: int

    @property
    def pattern(self) -> str:
        return f"{self.name}.*"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypePicker:
    """The picker. It shows all types if `is_whole`, else those that match `find`; `left_out` groups are not shown."""

    is_all: bool
    groups: tuple[TypeGroup, ...]
    is_whole: bool
    find: str = ""
    left_out: int = 0
    count: int
    chosen: int

    @property
    def samples(self) -> list[str]:
        """The types with an example in the catalogue, of those that the picker shows."""
        return [it.name for group in self.groups for it in group.choices if it.description is not None]


def picker(outline: Sequence[OutlinedType], patterns: Collection[str], *, find: str = "") -> TypePicker:
    """The picker for these types; `patterns` are chosen already."""
    patterns = frozenset(patterns)
    groups, is_whole = _described(_groups(outline, patterns))
    names = [choice.name for group in groups for choice in group.choices if choice.below is None]
    whole = TypePicker(
        is_all=ALL in patterns,
        groups=tuple(groups),
        is_whole=True,
        count=len(names),
        chosen=len(catalogue.subscribed_types(names, patterns)),
    )
    return whole if is_whole else _searched(whole, find.strip().lower())


def singly(outline: Sequence[OutlinedType], patterns: Sequence[str], group: str) -> tuple[str, ...]:
    """The patterns with each type of the group by its own name, instead of the group: some can be left out then."""
    rest = [it for it in patterns if it != f"{group}.*"]
    return (*rest, *(it.name for it in outline if group_of(it.name) == group and it.name not in rest))


def _groups(outline: Sequence[OutlinedType], patterns: Collection[str]) -> list[TypeGroup]:
    """The groups of known types, and of chosen types that are unknown. A form may contain thousands of unknown types;
    at most as many as a webhook may have are shown. What is chosen below a prefix stands before the types of its group.
    """
    listed = {it.name: it.description for it in outline}
    known = {*listed, *(f"{group_of(it)}.*" for it in listed), ALL}
    unknown = sorted(it for it in patterns if it not in known)[:MAX_EVENT_TYPES]
    unknown_groups = {group_of(it) for it in unknown if it.endswith(".*")}
    narrower = {it for it in unknown if it.count(".") > 1 and it.endswith(".*") and pattern_problem(it) is None}
    names = sorted({*listed, *narrower, *(it for it in unknown if not it.endswith("*"))})
    by_group = {name: list(members) for name, members in groupby(names, key=group_of)}
    return [_group(name, by_group.get(name, ()), listed, patterns) for name in sorted({*by_group, *unknown_groups})]


def _group(name: str, members: Collection[str], listed: dict[str, str | None], patterns: Collection[str]) -> TypeGroup:
    choices = (TypeChoice(name=it, description=listed.get(it), is_chosen=it in patterns) for it in members)
    types = [it for it in members if not it.endswith("*")]
    return TypeGroup(
        name=name,
        is_chosen=f"{name}.*" in patterns,
        choices=tuple(sorted(choices, key=lambda it: it.below is None)),
        count=len(types),
        chosen=len(catalogue.subscribed_types(types, patterns)),
    )


def _described(groups: list[TypeGroup]) -> tuple[list[TypeGroup], bool]:
    """The groups with descriptions as long as possible, and whether all groups fit into the budget then."""
    for length in _LENGTHS:
        groups = [_with_short_descriptions(group, length) for group in groups]
        if sum(map(_cost, groups)) <= BUDGET_BYTES:
            return groups, True
    return groups, False


def _searched(whole: TypePicker, find: str) -> TypePicker:
    """The part of the picker that fits: what is chosen, then what is found, then other groups by name."""
    chosen = {group.name: _with_choices(group, [it for it in group.choices if it.is_chosen]) for group in whole.groups}
    budget = BUDGET_BYTES - sum(_cost(it) for it in chosen.values() if it.is_chosen or it.choices)
    shown: dict[str, TypeGroup] = {name: it for name, it in chosen.items() if it.is_chosen or it.choices}
    for group in sorted(whole.groups, key=lambda it: find not in it.name) if find else whole.groups:
        matches = [it for it in group.choices if it.is_chosen or (find and find in it.name)]
        if not matches and find and group.name not in shown:
            continue
        best = _with_choices(group, _fitting(matches, budget))
        budget -= _cost(best) - (_cost(shown[group.name]) if group.name in shown else 0)
        if budget < 0:
            break
        shown[group.name] = best
    groups = tuple(shown[name] for name in sorted(shown))
    return replace(whole, groups=groups, is_whole=False, find=find, left_out=len(whole.groups) - len(groups))


def _fitting(choices: Iterable[TypeChoice], budget: int) -> list[TypeChoice]:
    """The chosen types, and as many others as fit into the budget."""
    fitting, budget = [], budget - GROUP_BYTES
    for it in choices:
        budget -= 0 if it.is_chosen else _choice_cost(it)
        if it.is_chosen or budget > 0:
            fitting.append(it)
    return fitting


def _with_choices(group: TypeGroup, choices: Iterable[TypeChoice]) -> TypeGroup:
    return replace(group, choices=tuple(choices))


def _with_short_descriptions(group: TypeGroup, length: int) -> TypeGroup:
    return _with_choices(group, [replace(it, description=_short(it.description, length)) for it in group.choices])


def _short(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _cost(group: TypeGroup) -> int:
    return GROUP_BYTES + 6 * len(group.name) + sum(map(_choice_cost, group.choices))


def _choice_cost(choice: TypeChoice) -> int:
    """Bytes of a type in the list, and once more among the examples for a preview."""
    return TYPE_BYTES + 3 * len(choice.name) + len(escape(choice.description or "").encode())
