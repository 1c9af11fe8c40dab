"""Ids against the formats that their scope declares, and the ids of one request against each other.

Each id is compared once, as far as a bounded memory tells. It needs no second look while the ledger tracks its session,
or a session of its user: most events bring nothing new.
"""

from typing import Final

from session_exporter.core import events as wire
from session_exporter.core.ids import generations_of, shape_of
from session_exporter.core.incidents import OddId
from session_exporter.core.judge import ScopeJudge
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import Report
from session_exporter.core.requests import RequestMemory
from session_exporter.core.scopes import ID_FORMATS

# Their `session` is what a stranger may have written, or the id of a use of a database session.
_WITHOUT_SESSION: Final = (wire.Unmet, wire.Violated)


class IdChecks:
    """Checks ids of all scopes.

    Args:
        names: Digests of ids.
        requests: Remembers which ids have been checked.
    """

    def __init__(self, names: Pseudonyms, requests: RequestMemory) -> None:
        self._names = names
        self._requests = requests

    def check(self, event: wire.Event, report: Report, judge: ScopeJudge) -> None:
        """Compare those ids of an event that are known, and new, with the formats of its scope.

        Args:
            event: Of any kind but a use of a database session.
            report: Its report.
            judge: Of its scope.
        """
        for kind, declared in judge.rules.id_formats.items():
            id_ = getattr(event, kind, "")
            if not id_ or _is_passed_over(kind, event, report, judge):
                continue
            digest = report.session if kind == "session" else self._names[id_]
            if not self._requests.first_check(kind, judge.number, digest):
                continue
            form = declared.classify(id_)
            judge.tally.id_check(report.at_us, kind, form)
            if form != "canonical":
                judge.tally.odd_id(report, OddId(kind, form, shape_of(id_), declared.pattern, digest))

    def checked(self, event: wire.Checked, report: Report, judge: ScopeJudge, digest: bytes) -> None:
        """Count an id that was compared where it was still known; `digest` is that of the id."""
        declared = judge.rules.id_formats.get(event.id_kind)
        if declared is None or event.form not in ID_FORMATS:
            return
        if self._requests.first_check(event.id_kind, judge.number, digest):
            judge.tally.id_check(report.at_us, event.id_kind, event.form)
            if event.form != "canonical":
                judge.tally.odd_id(report, OddId(event.id_kind, event.form, event.shape, declared.pattern, digest))

    def identified(self, event: wire.Identified, report: Report, judge: ScopeJudge) -> None:
        """Count a request, once, whose thread, run and request id are unified but of different generations."""
        if event.mismatched or len(generations_of(event.thread, event.run, event.request)) > 1:
            # Without a request, the two ids stand for it.
            request = report.evidence.request or self._names[event.thread] + self._names[event.run]
            if self._requests.first_check("generation", judge.number, request):
                judge.tally.id_mismatch(report)


def _is_passed_over(kind: str, event: wire.Event, report: Report, judge: ScopeJudge) -> bool:
    if kind == "session":
        return report.session in judge.people.sessions or isinstance(event, _WITHOUT_SESSION)
    return kind == "user" and report.owner in judge.people.owners
