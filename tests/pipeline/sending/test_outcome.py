"""What is recorded of an attempt: whose failure it was, and the part of the answer's headers that is kept."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.delivery.answer import ErrorName, Failure, Response
from daemon.pipeline.sending.outcome import KEPT_HEAD_BYTES, head_of, succeeded

headers = st.lists(
    st.tuples(st.text(st.characters(max_codepoint=255), max_size=300), st.text(max_size=3000)), max_size=40
)


@pytest.mark.parametrize("error", ErrorName)
def test_only_what_the_receiver_can_help_counts_against_it(error: ErrorName) -> None:
    ours = {ErrorName.RENDER_ERROR, ErrorName.INTERNAL_ERROR, ErrorName.PROXY_ERROR}
    assert succeeded(Failure(error=error)) is (None if error in ours else False)


@given(headers)
def test_a_head_is_kept_as_json_of_as_many_whole_headers_as_there_is_room_for(given: list[tuple[str, str]]) -> None:
    written = head_of(Response(status=200, headers=tuple(given)))
    kept = [tuple(header) for header in orjson.loads(written)]
    assert len(written.encode()) <= KEPT_HEAD_BYTES
    assert kept == given[: len(kept)]
    if len(kept) < len(given):
        one_more = orjson.dumps(given[: len(kept) + 1])
        assert len(one_more) > KEPT_HEAD_BYTES
