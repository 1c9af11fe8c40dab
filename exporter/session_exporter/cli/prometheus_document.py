"""The summary of a whole fleet, from a Prometheus: the document that a sidecar gives of itself, judged alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from session_exporter._version import __version__
from session_exporter.cli.plain import window_text
from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_fleet import Fleet, doubts, fleet, name_of, remarks, troubled, unread
from session_exporter.cli.prometheus_growth import Growth, growth
from session_exporter.cli.prometheus_presence import presence
from session_exporter.cli.prometheus_queries import CENSUS, COUNTERS, EVENTS_LOST, LATE_EVENTS, Selection, Target
from session_exporter.cli.prometheus_sightings import Pair, Span
from session_exporter.cli.source import Answer, Question
from session_exporter.core.documents import iso
from session_exporter.core.plaintext import inert
from session_exporter.core.scopes import ScopeRules
from session_exporter.errors import PeerError
from session_exporter.sidecar.summary import doubted, problems_of, users_problem, window_of

# For all questions together.
DEADLINE_S: Final = 180.0
SCOPES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class FleetSource:
    """A Prometheus that scrapes the sidecars of a fleet.

    Attributes:
        prometheus: Who is asked.
        matchers: Which series are meant, as PromQL has it; `""` for all.
        config_file: The configuration that says which ratio each scope is meant to reach; None for the default.
    """

    prometheus: Prometheus
    matchers: str = ""
    config_file: Path | None = None

    def summary(self, question: Question) -> Answer:
        """Get the summary document.

        Raises:
            SilentPeerError: Nothing listens there, or it kept silent.
            PeerError: It refuses, is no Prometheus, or knows nothing of such sessions in the window.
            ConfigError: The configuration cannot be read.
        """
        rules = self._rules()
        asked = self.prometheus.within(DEADLINE_S)
        selection = Selection(self.matchers, question.scope)
        to_s = asked.now_s()
        span = Span(round(to_s - question.since_s, 3), to_s)
        everybody = _everybody(asked, selection, span)
        chosen = {pair: count for pair, count in everybody.items() if not pair[1] or question.scope in {None, pair[1]}}
        grown = growth(asked, selection, span, chosen)
        found = fleet(asked, selection, span, _counting(chosen), _targets(everybody) - _counting(everybody))
        document = summary_document(span, _judged(rules, chosen), grown, found)
        return Answer(doubted(document, doubts(found, grown, asked.warnings)), origin=asked.base_url)

    def incidents(self, question: Question) -> Answer:
        """A Prometheus has none; raises a PeerError that says whom to ask."""
        raise self._counts_only(question)

    def lookups(self, question: Question) -> Answer:
        """A Prometheus does not know where; raises a PeerError that says whom to ask."""
        raise self._counts_only(question)

    def _counts_only(self, _: Question) -> PeerError:
        return PeerError(f"{self.prometheus.base_url} has counts alone: ask a sidecar, with --url http://HOST:9897")

    def _rules(self) -> dict[str, ScopeRules]:
        if self.config_file is None:
            return {}
        from session_exporter.config import load  # noqa: PLC0415 - brings PyYAML, which few calls need

        return dict(load(self.config_file).scopes)


def summary_document(span: Span, scopes: Mapping[str, ScopeRules], grown: Growth, found: Fleet) -> dict[str, Any]:
    """Write what was counted as a sidecar does, and judge it by the same rules.

    Args:
        span: From when to when.
        scopes: In the order to be shown in.
        grown: What was counted.
        found: Who counted it.
    """
    minutes = {name: _minute(grown, name) for name in scopes}
    windows = {name: window_of([minute]) for name, minute in minutes.items()}
    total = window_of(minutes.values())
    problems = [problem for name, window in windows.items() for problem in _problems(scopes[name], window, found)]
    return {
        "version": __version__,
        "generated_at": iso(round(span.to_s * 1e6)),
        "window_seconds": round(span.to_s - span.from_s, 3),
        "healthy": not problems if total["operations"] or problems else None,
        "problems": problems,
        "total": total,
        "scopes": {name: _scope(scopes[name], window, found) for name, window in windows.items()},
        "minutes": [],
        "exporter": _exporter(grown, found),
    }


def _everybody(prometheus: Prometheus, selection: Selection, span: Span) -> dict[Pair, float]:
    everybody = presence(prometheus, Selection(selection.matchers), span)
    scopes = {scope for _, scope in everybody if scope}
    if not scopes:
        window = window_text(span.to_s - span.from_s)
        series = CENSUS[0] + (f"{{{selection.matchers}}}" if selection.matchers else "")
        raise PeerError(f"{prometheus.base_url} has no series {inert(series)} in the last {window}: is it scraped?")
    if selection.scope not in {None, *scopes}:
        known = ", ".join(map(inert, sorted(scopes)[:SCOPES_SHOWN]))
        raise PeerError(f"{prometheus.base_url} knows no scope {inert(str(selection.scope))!r}: there are {known}")
    return everybody


def _targets(pairs: Iterable[Pair]) -> set[Target]:
    return {target for target, _ in pairs}


def _counting(pairs: Iterable[Pair]) -> set[Target]:
    return {target for target, scope in pairs if scope}


def _judged(rules: Mapping[str, ScopeRules], pairs: Iterable[Pair]) -> dict[str, ScopeRules]:
    """How scopes are judged, in the order of the configuration and then by name."""
    scopes = {scope for _, scope in pairs if scope}
    named = [*(name for name in rules if name in scopes), *sorted(scopes - rules.keys())]
    return {name: rules.get(name, ScopeRules(name)) for name in named}


def _minute(grown: Growth, scope: str) -> dict[str, int]:
    """Count by the names that the state's minutes have."""
    minute: dict[str, int] = {}
    for counted, value in grown.counts.items():
        if counted.scope == scope and counted.name in COUNTERS:
            name = COUNTERS[counted.name].counted
            minute[f"{name}:{counted.words}" if counted.words else name] = round(value)
    return minute


def _problems(rules: ScopeRules, window: dict[str, Any], found: Fleet) -> Iterable[str]:
    yield from problems_of(rules, window)
    yield from users_problem(rules.name, found.duplicate_active_users.get(rules.name))


def _scope(rules: ScopeRules, window: dict[str, Any], found: Fleet) -> dict[str, Any]:
    return {
        "window": window,
        "reuse_target": rules.reuse_target,
        "active_sessions": found.active_sessions.get(rules.name, 0),
        "active_users": found.active_users.get(rules.name, 0),
        "duplicate_active_users": found.duplicate_active_users.get(rules.name),
    }


def _exporter(grown: Growth, found: Fleet) -> dict[str, Any]:
    def counted(name: str) -> int:
        return round(sum(value for each, value in grown.counts.items() if each.name == name))

    return {
        "workers": found.workers,
        "events_lost": counted(EVENTS_LOST),
        "late_events": counted(LATE_EVENTS),
        "last_commit_at": None,
        "hint": "",
        "instances": len(found.counting),
        "forwarders": len(found.forwarding),
        "instances_down": sorted(map(name_of, found.down)),
        "partitions_unread": unread(found, grown),
        "troubled": troubled(found, grown),
        "notes": remarks(found, grown),
    }
