from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from daemon.web.dashboard.html.text import excerpt_of, json_excerpt


@given(st.text(st.sampled_from('ab"<&é🙂\n')), st.integers(0, 60))
def test_an_excerpt_takes_at_most_that_many_bytes_in_a_page(text: str, max_bytes: int) -> None:
    cut = excerpt_of(text, max_bytes)

    assert text.startswith(cut.text)
    assert len(escape(cut.text).encode()) <= max_bytes
    assert cut.is_whole == (cut.text == text)
    assert cut.is_whole or len(escape(text[: len(cut.text) + 1]).encode()) > max_bytes


def test_json_is_laid_out_as_far_as_it_fits() -> None:
    assert json_excerpt('{"a":[1,2]}', 1000).text == '{\n  "a": [\n    1,\n    2\n  ]\n}'

    cut = json_excerpt('{"a":[1,2]}', 12)
    assert (cut.text, cut.is_whole) == ('{\n  "a', False)
    assert len(json_excerpt("[" * 5000 + "]" * 5000, 10_000).text) <= 10_000
