from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.delivery.explanation_text import ExplainedDecision, ExplanationFacts, sentence

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
FACTS = {
    "event_time": AT,
    "event_type": "order.create",
    "created_at": AT + timedelta(hours=1),
    "route": None,
    "window": None,
    "tries": 0,
    "last_at": None,
    "last_error": None,
    "due_at": None,
    "is_parked": False,
}


@pytest.mark.parametrize("verdict", ExplainedDecision)
def test_every_verdict_has_a_sentence(verdict: ExplainedDecision) -> None:
    said = sentence(verdict, ExplanationFacts(**FACTS))  # type: ignore[arg-type]  # a literal copy of the fields
    assert said.endswith(".")
    assert "None" not in said


@pytest.mark.parametrize(
    ("verdict", "facts", "said"),
    [
        (
            ExplainedDecision.DELIVERED,
            {"tries": 2, "last_at": AT},
            "Delivered on attempt 2, 2026-11-23 08:00:00.000000 UTC.",
        ),
        (
            ExplainedDecision.PENDING,
            {"tries": 3, "last_error": "http_500", "due_at": AT},
            "Attempt 3 failed (http_500); the next one is due at 2026-11-23 08:00:00.000000 UTC.",
        ),
        (
            ExplainedDecision.PENDING,
            {"is_parked": True},
            "Waiting for its turn: the route is slower than its events, or does not answer.",
        ),
        (ExplainedDecision.PENDING, {"due_at": AT}, "Due, and about to be sent."),
        (
            ExplainedDecision.FAILED,
            {"tries": 60, "last_error": "timeout"},
            "Failed for good after 60 attempts; the last error was timeout.",
        ),
        (
            ExplainedDecision.BEFORE_CREATION,
            {},
            (
                "The event happened at 2026-11-23 08:00:00.000000 UTC, before the route was created "
                "at 2026-11-23 09:00:00.000000 UTC."
            ),
        ),
    ],
)
def test_a_sentence_names_its_grounds(verdict: ExplainedDecision, facts: dict[str, object], said: str) -> None:
    assert sentence(verdict, ExplanationFacts(**{**FACTS, **facts})) == said  # type: ignore[arg-type]  # a literal copy
