"""The file of signed heads: whole lines, also after a crash or on a full disk."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from daemon.core.sealing.head import PublicSealKey, SealKey, SignedHead, TreeHead
from daemon.sealing.anchoring import anchor_file
from daemon.sealing.anchoring.anchors import BadAnchors, parse_anchors

KEY = SealKey(bytes(32))


def line(size: int) -> bytes:
    head = TreeHead(origin="hookledger/a/1", size=size, root=bytes(32))
    public = PublicSealKey(name="hookledger/a", key=KEY.public)
    signed = SignedHead(head=head, signatures=((public.name, public.id, KEY.sign(head.text)),))
    return anchor_file.line_of(signed, datetime(2026, 11, 23, tzinfo=UTC))


def sizes(path: Path) -> list[int]:
    return [anchor.size for anchor in parse_anchors(path.read_text())]


def test_heads_are_appended_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    for size in (1, 2, 3):
        anchor_file.append(path, line(size))
    assert sizes(path) == [1, 2, 3]


def test_its_time_is_written_as_all_are() -> None:
    assert orjson.loads(line(1))["at"] == "2026-11-23T00:00:00.000000Z"


def test_after_a_line_that_a_crash_has_cut_the_next_begins_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(line(1) + line(2)[:50])
    anchor_file.append(path, line(3))
    with pytest.raises(BadAnchors, match="line 2 is no signed head"):
        sizes(path)
    whole = path.read_text().splitlines()
    path.write_text("\n".join([whole[0], "", whole[2]]))
    assert sizes(path) == [1, 3]


def test_a_device_without_space_is_named_with_what_keeps_it_from_being_written() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        anchor_file.append(Path("/dev/full"), line(1))


def test_what_did_not_fit_on_the_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "anchors"
    anchor_file.append(path, line(1))
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:50]))
        with pytest.raises(OSError, match="only a part") as caught:
            anchor_file.append(path, line(2))
        assert caught.value.filename == str(path)
    assert sizes(path) == [1]
    anchor_file.append(path, line(3))
    assert sizes(path) == [1, 3]
