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
    "attempts": 0,
    "last_at": None,
    "last_error": None,
    "due_at": None,
    "is_parked": False,
}


@pytest.mark.parametrize("decision", ExplainedDecision)
def test_every_decision_has_a_sentence(decision: ExplainedDecision) -> None:
    text = sentence(decision, ExplanationFacts(**FACTS))  # type: ignore[arg-type]  # a literal copy of the fields
    assert text.endswith(".")
    assert "None" not in text


@pytest.mark.parametrize(
    ("decision", "facts", "text"),
    [
        (
            ExplainedDecision.DELIVERED,
            {"attempts": 2, "last_at": AT},
            "Delivered on attempt 2, 2026-11-23 08:00:00.000000 UTC.",
        ),
        (
            ExplainedDecision.PENDING,
            {"attempts": 3, "last_error": "http_500", "due_at": AT},
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
            {"attempts": 60, "last_error": "timeout"},
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
def test_a_sentence_states_the_facts(decision: ExplainedDecision, facts: dict[str, object], text: str) -> None:
    assert sentence(decision, ExplanationFacts(**{**FACTS, **facts})) == text  # type: ignore[arg-type]  # a literal copy
