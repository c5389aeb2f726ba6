"""Signed heads that were kept elsewhere: read from a file or an answer, and compared with the seals of the database.

A file of anchors has one head in each line, as the daemon writes it to `seal.anchor_file`: a JSON object whose `note`
is the signed note. Other members do not count. A file with a single note in its own form will do as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from daemon.core.events import raw_json
from daemon.core.sealing.head import ForeignSignature, MalformedHead, PublicSealKey, SignedHead, log_name, parse_head
from daemon.sealing.report import SealReport


class BadAnchors(ValueError):
    """A line that is no signed head. The message names the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A head from elsewhere, with the number of its line."""

    line: int
    signed: SignedHead

    @property
    def size(self) -> int:
        return self.signed.head.size


def parse_anchors(text: str) -> list[Anchor]:
    """The heads in a file of anchors. Raises BadAnchors, also if there is none."""
    if text.startswith("\ufeff"):
        raise BadAnchors("it begins with a byte order mark, so somebody has edited it: save it as UTF-8 without one")
    if not text.lstrip().startswith("{"):
        try:
            return [Anchor(line=1, signed=parse_head(text))]
        except MalformedHead as error:
            raise BadAnchors(f"this holds no signed head: {error}") from error
    anchors = []
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            anchors.append(Anchor(line=number, signed=parse_head(_note(line))))
        except MalformedHead as error:
            raise BadAnchors(f"line {number} is no signed head: {error}") from error
    return anchors


def _lines(text: str) -> Iterator[str]:
    """The lines, which end with line feeds alone, one after the other: a year of heads has half a million."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _note(line: str) -> str:
    try:
        parsed = orjson.loads(line)
        is_doubled = isinstance(parsed, dict) and _has_two_notes(line)
    except (ValueError, RecursionError) as error:
        raise MalformedHead("it is no JSON; was it cut off?") from error
    if is_doubled:
        raise MalformedHead("it has two notes: somebody has changed it")
    note = parsed.get("note") if isinstance(parsed, dict) else None
    if not isinstance(note, str):
        raise MalformedHead("it has no note")
    return note


def _has_two_notes(line: str) -> bool:
    """Ours have the name once and nothing that is written as an escape, and so are not read once more."""
    if line.count('"note"') == 1 and "\\u" not in line:
        return False
    return [name for name, _ in raw_json.members(line)].count("note") > 1


def compare(
    report: SealReport,
    anchors: Sequence[Anchor],
    *,
    name: str,
    keys: Sequence[PublicSealKey],
    heads: Mapping[int, tuple[str, bytes]],
    size: int,
) -> None:
    """Adds a finding for the first head that is not a head of these seals. `heads` maps the sizes of the anchors, as
    far as there are so many seals, to the origin and the root that their heads have; `size` is how many seals are
    whole.
    """
    for anchor in anchors:
        problem = _problem(anchor, name, keys, heads, size)
        if problem is not None:
            report.add("anchor", f"line {anchor.line}: {problem}", seal=anchor.size)
            return
        report.anchors += 1


def _problem(  # noqa: PLR0911 - one sentence for each
    anchor: Anchor,
    name: str,
    keys: Sequence[PublicSealKey],
    heads: Mapping[int, tuple[str, bytes]],
    size: int,
) -> str | None:
    head = anchor.signed.head
    if log_name(head.origin) != name:
        return f"the head is of another log, {head.origin}; this one is {name}"
    try:
        anchor.signed.signer(list(keys))
    except ForeignSignature as error:
        return f"{error}: if that key was ours, name it in seal.former_keys"
    if head.size == 0:
        return "the head is of no seals"
    if head.size not in heads:
        return f"the head is of {head.size} seals, and only the first {size} are here, and whole"
    origin, root = heads[head.size]
    if head.origin != origin:
        return f"the head is of another lineage, {head.origin}: seal {head.size} here was made in {origin}"
    if head.root != root:
        return f"the first {head.size} seals are not those of the head: one of them was changed, or made again"
    return None
