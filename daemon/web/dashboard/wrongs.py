"""What is wrong with a form, by field: for the sentences beside the fields, and for the list above them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemon.commands import Invalid
from daemon.core.event import Problem


class Wrongs:
    """Sentences by field. Falsy if nothing is wrong. Fields are named as in the API: `payload.filter`."""

    def __init__(self, problems: Sequence[Problem] = ()) -> None:
        self._problems = tuple(problems)

    @classmethod
    def of(cls, error: Invalid) -> Wrongs:
        return cls(error.problems)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def __getitem__(self, field: str) -> list[str]:
        """What is wrong with that very field."""
        return [problem.message for problem in self._problems if problem.field == field]
