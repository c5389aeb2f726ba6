"""The choice of event types: groups, and in each the types of the catalogue, those seen, and those chosen already.

A page has at most 100 kB, and a catalogue a thousand types with long descriptions. So what is shown has a budget: first
descriptions get shorter; if that is not enough, types are found by their names, and shown are those and the chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import escape

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES
from daemon.core.events import catalogue
from daemon.core.events.catalogue import group_of
from daemon.core.routing.index import ALL
from eventstore.domain_events.catalogue import OutlinedType

DESCRIPTION_CHARACTERS = 160
_LENGTHS = (DESCRIPTION_CHARACTERS, 80, 40)

# What the picker may take of the page, and what a group and a type take besides their names.
BUDGET_BYTES = 80_000
GROUP_BYTES = 700
TYPE_BYTES = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeChoice:
    """A type: whether it is chosen itself, and what the catalogue says of it; None if that does not have it."""

    name: str
    description: str | None
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeGroup:
    """Types of a group; `count` of them there are, `chosen` of which the webhook would receive, and `choices` shown."""

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
    """`is_whole` if every type is shown; else those that `find` finds. `left_out` groups are not shown."""

    is_all: bool
    groups: tuple[TypeGroup, ...]
    is_whole: bool
    find: str = ""
    left_out: int = 0
    count: int
    chosen: int

    @property
    def samples(self) -> list[str]:
        """The types that have an example in the catalogue, of those shown."""
        return [it.name for group in self.groups for it in group.choices if it.description is not None]


def picker(outline: Sequence[OutlinedType], patterns: Collection[str], *, find: str = "") -> TypePicker:
    """The choice among these types, with what is chosen already."""
    patterns = frozenset(patterns)
    groups, is_whole = _described(_groups(outline, patterns))
    names = [choice.name for group in groups for choice in group.choices]
    whole = TypePicker(
        is_all=ALL in patterns,
        groups=tuple(groups),
        is_whole=True,
        count=len(names),
        chosen=len(catalogue.chosen(names, patterns)),
    )
    return whole if is_whole else _found(whole, find.strip().lower())


def _groups(outline: Sequence[OutlinedType], patterns: Collection[str]) -> list[TypeGroup]:
    """Of what nobody knows here there are no more than a webhook may have: a form has room for thousands."""
    listed = {it.name: it.description for it in outline}
    known = {*listed, *(f"{group_of(it)}.*" for it in listed), ALL}
    unknown = sorted(it for it in patterns if it not in known)[:MAX_EVENT_TYPES]
    names = sorted({*listed, *(it for it in unknown if not it.endswith("*"))})
    by_group = {name: list(members) for name, members in groupby(names, key=group_of)}
    wanted = {group_of(it) for it in unknown if it.endswith(".*")}
    return [_group(name, by_group.get(name, ()), listed, patterns) for name in sorted({*by_group, *wanted})]


def _group(name: str, members: Collection[str], listed: dict[str, str | None], patterns: Collection[str]) -> TypeGroup:
    return TypeGroup(
        name=name,
        is_chosen=f"{name}.*" in patterns,
        choices=tuple(TypeChoice(name=it, description=listed.get(it), is_chosen=it in patterns) for it in members),
        count=len(members),
        chosen=len(catalogue.chosen(members, patterns)),
    )


def _described(groups: list[TypeGroup]) -> tuple[list[TypeGroup], bool]:
    """The groups with descriptions as long as they may be, and whether all of it fits then."""
    for length in _LENGTHS:
        groups = [_with_short_descriptions(group, length) for group in groups]
        if sum(map(_cost, groups)) <= BUDGET_BYTES:
            return groups, True
    return groups, False


def _found(whole: TypePicker, find: str) -> TypePicker:
    """As much of it as fits: what is chosen, then what is found, then the other groups by their names."""
    chosen = {group.name: _with(group, [it for it in group.choices if it.is_chosen]) for group in whole.groups}
    room = BUDGET_BYTES - sum(_cost(it) for it in chosen.values() if it.is_chosen or it.choices)
    shown: dict[str, TypeGroup] = {name: it for name, it in chosen.items() if it.is_chosen or it.choices}
    for group in sorted(whole.groups, key=lambda it: find not in it.name) if find else whole.groups:
        wanted = [it for it in group.choices if it.is_chosen or (find and find in it.name)]
        if not wanted and find and group.name not in shown:
            continue
        best = _with(group, _fitting(wanted, room))
        room -= _cost(best) - (_cost(shown[group.name]) if group.name in shown else 0)
        if room < 0:
            break
        shown[group.name] = best
    groups = tuple(shown[name] for name in sorted(shown))
    return replace(whole, groups=groups, is_whole=False, find=find, left_out=len(whole.groups) - len(groups))


def _fitting(choices: Iterable[TypeChoice], room: int) -> list[TypeChoice]:
    """The chosen ones, and of the others as many as there is room for."""
    fitting, room = [], room - GROUP_BYTES
    for it in choices:
        room -= 0 if it.is_chosen else _choice_cost(it)
        if it.is_chosen or room > 0:
            fitting.append(it)
    return fitting


def _with(group: TypeGroup, choices: Iterable[TypeChoice]) -> TypeGroup:
    return replace(group, choices=tuple(choices))


def _with_short_descriptions(group: TypeGroup, length: int) -> TypeGroup:
    return _with(group, [replace(it, description=_short(it.description, length)) for it in group.choices])


def _short(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _cost(group: TypeGroup) -> int:
    return GROUP_BYTES + 6 * len(group.name) + sum(map(_choice_cost, group.choices))


def _choice_cost(choice: TypeChoice) -> int:
    """In the list, and once more among the samples of a preview."""
    return TYPE_BYTES + 3 * len(choice.name) + len(escape(choice.description or "").encode())
