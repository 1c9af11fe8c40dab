"""From events, which hold plain ids, to reports, which hold digests of them and may rest in the state."""

from typing import Final

from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import LOOKED_UP, Evidence, Report
from session_exporter.core.scopes import END_REASONS

# Different call sites that are shared; more than any application has.
SITES_MAX: Final = 4096

_MADE: Final = (wire.Created, wire.Observed)


class Reports:
    """Makes reports.

    Args:
        names: Digests of ids.
    """

    def __init__(self, names: Pseudonyms) -> None:
        self._names = names
        self._sites: dict[tuple[str, ...], tuple[str, ...]] = {}

    def of(self, event: wire.Event, kind: int, scope: int, place: str, writer: wire.Writer) -> Report:
        """The report of an event.

        Args:
            event: Of any kind but a use of a database session.
            kind: Its number.
            scope: The number of its scope.
            place: What keeps ids of undeclared scopes apart; `""` for those of a declared one.
            writer: Who wrote it.
        """
        names = self._names
        user, key = names[event.user], place + event.key
        owner = names.keyed_user(user, key) if key and user else user
        request = names[event.request]
        if not request and event.trace:
            request = names[f"{event.trace.hex()}@{writer.id}"]
        sites = self._shared(getattr(event, "sites", ()))
        evidence = Evidence(request, event.trace, writer.id, writer.replica, writer.pid, sites)
        report = Report(event.at_us, self._session(event.session, place), kind, scope, owner, user, evidence)
        if kind == LOOKED_UP:  # as most are that get here
            return report
        if isinstance(event, _MADE):
            return self._made(report, event, place)
        if isinstance(event, wire.Ended):
            return structs.replace(report, reason=event.reason if event.reason in END_REASONS else "other")
        if isinstance(event, wire.Unmet):
            other = self._session(event.actual, place)
            missed, since_us = event.missed, event.since_us
            return structs.replace(report, origin=missed, created_at_us=since_us, first=not event.shared, other=other)
        return report

    def _made(self, report: Report, event: wire.Created | wire.Observed, place: str) -> Report:
        if isinstance(event, wire.Observed):
            report = structs.replace(report, created_at_us=event.created_at_us, origin=event.origin)
        if not event.generation and not event.expected:
            return report
        other = self._session(event.expected, place) if event.expected != event.session else b""
        return structs.replace(report, version=self._names[event.generation], other=other)

    def _session(self, session: str, place: str) -> bytes:
        return self._names[place + session] if session else b""

    def _shared(self, sites: tuple[str, ...]) -> tuple[str, ...]:
        """One object for all events of one place in the code: evidence is kept of many creates, made in few places."""
        if len(self._sites) >= SITES_MAX:
            self._sites.clear()
        return self._sites.setdefault(sites, sites)
