"""How long a page of a list is looked for."""

from __future__ import annotations

from daemon.deliveries import listing
from daemon.web.service.events import event_pages


def test_no_page_ends_early_before_a_second() -> None:
    assert listing.PAGE_SECONDS == 1.0
    assert event_pages.PAGE_SECONDS == 1.0
