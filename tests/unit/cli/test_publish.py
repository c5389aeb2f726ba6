"""The event that `hookledger publish` makes of a line."""

from daemon.cli.events.publish import JudgedLine, Rules, judge, made_id
from daemon.core.events.ndjson import Line


def test_a_made_id_belongs_to_the_line_and_its_place() -> None:
    assert made_id(1, b"a") == made_id(1, b"a")
    assert len({made_id(1, b"a"), made_id(2, b"a"), made_id(1, b"b"), made_id(11, b"")}) == 4


def test_backfill_of_the_command_is_put_on_every_event() -> None:
    text = b'{"tenant": "acme", "type": "order.create", "data": {}}'
    judged = judge(Line(number=1, text=text, size_bytes=len(text)), Rules(max_bytes=1000, backfill=True))
    assert isinstance(judged, JudgedLine)
    assert judged.event.backfill
