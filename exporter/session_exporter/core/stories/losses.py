"""A session that was expected, what came instead, and what had been done with it."""

from typing import Final, NamedTuple

from session_exporter.core.stories.dossier import Dossier
from session_exporter.core.stories.steps import Step
from session_exporter.core.stories.wording import gap_text

_USES: Final = {
    "created": "created it",
    "reused": "used it",
    "looked_up": "found it",
    "observed": "saw it",
    "attributed": "learned whose it is",
}


# Whoever makes a session before ending the last one ends it within this time.
_SOON_US: Final = 2_000_000


class Loss(NamedTuple):
    """One lost context."""

    dossier: Dossier
    expected: str
    actual: str

    @property
    def e(self) -> str:
        """How the expected session is called."""
        return self.dossier.names.session(self.expected)

    @property
    def a(self) -> str:
        """How the session is called that came instead."""
        return self.dossier.names.session(self.actual)

    @property
    def who(self) -> str:
        """The request that lost it; its worker, where the request is not known."""
        here, names = self.dossier.here, self.dossier.names
        return f"Request {names.request(here.request)}" if here.request else f"Worker {names.worker(here)}"

    def work(self) -> list[Step]:
        """What the request did."""
        return self.dossier.of_request(self.dossier.here)

    def uses(self) -> list[Step]:
        """What was done with the expected session."""
        return [each for each in self.dossier.of_session(self.expected) if each.kind in _USES]

    def before(self, at_us: int) -> list[Step]:
        """What had been done with it before that time."""
        return [each for each in self.uses() if each.at_us < at_us]

    def last_use(self, at_us: int) -> str:
        """Who had done what with it last before that time, after a colon; `""` when nobody is known."""
        uses = self.before(at_us)
        if not uses:
            return ""
        gap = gap_text(at_us - uses[-1].at_us)
        return f": {by(self.dossier, uses[-1])} {_USES[uses[-1].kind]} {gap} before"

    def taken(self) -> Step | None:
        """What the request did first with the session that came instead."""
        return next((each for each in self.work() if each.session == self.actual and each.kind in _USES), None)

    def end(self, at_us: int) -> Step | None:
        """How the expected session ended around that time, after it was used last; None when no event says so."""
        used_us = max((each.at_us for each in self.before(at_us)), default=0)
        ends = [each for each in self.dossier.of_session(self.expected) if each.kind == "ended"]
        return next((each for each in reversed(ends) if used_us <= each.at_us <= at_us + _SOON_US), None)


def by(dossier: Dossier, step: Step) -> str:
    """Who took a step, and where."""
    return "the database" if step.is_unhooked else f"{dossier.names.worker(step)}{dossier.at(step)}"


def when(step: Step, at_us: int) -> str:
    """How long before or after that time a step was taken."""
    gap_us = at_us - step.at_us
    return f"{gap_text(abs(gap_us))} {'before' if gap_us > 0 else 'after'}" if gap_us else "at the same time"
