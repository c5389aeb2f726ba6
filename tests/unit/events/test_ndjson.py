"""Lines from chunks of any size, in constant memory."""

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.events.ndjson import Line, LineSplitter


def _split(*chunks: bytes, max_bytes: int = 100) -> list[Line]:
    splitter = LineSplitter(max_bytes=max_bytes)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.end())


def test_lines_are_numbered_and_blank_ones_counted_but_left_out() -> None:
    assert [(line.number, line.text) for line in _split(b"a\n\n  \nb")] == [(1, b"a"), (4, b"b")]


def test_ends_of_windows_and_a_byte_order_mark_are_no_content() -> None:
    assert [line.text for line in _split(b"\xef\xbb\xbfa\r\nb\r\n")] == [b"a", b"b"]


def test_a_line_of_just_the_allowed_size_is_whole_and_one_more_byte_is_too_long() -> None:
    allowed, longer = b"x" * 100, b"x" * 101
    assert [line.text for line in _split(allowed + b"\r\n" + longer + b"\r\n" + b"b\n")] == [allowed, None, b"b"]


def test_of_a_line_that_is_too_long_only_the_size_is_kept() -> None:
    splitter = LineSplitter(max_bytes=100)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 1000)) == []
        assert sum(map(len, splitter._pieces)) <= 104
    assert list(splitter.feed(b"\n")) == [Line(number=1, text=None, size_bytes=1_000_000)]


@given(st.lists(st.binary(max_size=20) | st.text(alphabet="x \r", max_size=20).map(str.encode)), st.data())
def test_lines_do_not_depend_on_how_the_file_was_cut(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"\n".join(parts)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole)))
    assert _split(whole, max_bytes=10) == _split(whole[:cut], whole[cut:], max_bytes=10)
