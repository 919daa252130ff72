"""For drills whose evidence is what a test looks at."""

from __future__ import annotations

from sre.evidence.schema import StepRecord


class Silent:
    """A narrator that says nothing."""

    def drill(self, name: str, sentence: str, target: str) -> None:
        pass

    def step(self, step: StepRecord) -> None:
        pass

    def say(self, line: str) -> None:
        pass
