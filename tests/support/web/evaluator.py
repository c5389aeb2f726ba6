"""An evaluator without a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from daemon.expressions.evaluator import Evaluator
from daemon.expressions.messages import EvaluationJob, EvaluationReply
from daemon.expressions.process import answer
from daemon.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from tests.support.web.application import App

ReplyT = TypeVar("ReplyT", bound=EvaluationReply)


class EvaluatorHere(Evaluator):
    """Does each job at once, as the process does it, and notes in whose turn it was asked for."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(metrics)
        self.turns: list[str] = []

    async def _reply(self, tenant: str, job: EvaluationJob, kind: type[ReplyT]) -> ReplyT:
        self.turns.append(tenant)
        reply = answer(job)
        assert isinstance(reply, kind)
        return reply


def evaluator_of(app: App) -> EvaluatorHere:
    """The evaluator of an application under test."""
    found = app.services.filter_places.evaluator
    assert isinstance(found, EvaluatorHere)
    return found
