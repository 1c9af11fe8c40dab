"""What is asked of a Prometheus: which of our counters make up a summary, and which of their series are meant."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from session_exporter.core.scopes import CAUSES, END_REASONS, FAILURES, LOSS_REASONS, VIOLATIONS
from session_exporter.core.totals import ID_CHECKS

# What tells instances apart: every label of a series that is not the metric's own, in order.
Target: TypeAlias = tuple[tuple[str, str], ...]


class Counter(NamedTuple):
    """A counter of a scope.

    Attributes:
        counted: What a minute of the state calls it, before the colon where it has words.
        labels: Its own labels beside the scope.
        words: What they may say, joined by `/`.
    """

    counted: str
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


COUNTERS: Final = {
    "session_creates_total": Counter("creates"),
    "session_reuses_total": Counter("reuses"),
    "session_lookups_total": Counter("lookups"),
    "session_redundant_lookups_total": Counter("redundant_lookups"),
    "session_create_conflicts_total": Counter("conflicts"),
    "session_id_mismatches_total": Counter("id_mismatches"),
    "session_rapid_duplicate_creates_total": Counter("duplicates", ("cause",), CAUSES),
    "session_context_loss_total": Counter("losses", ("reason",), LOSS_REASONS),
    "session_isolation_violations_total": Counter("violations", ("kind",), VIOLATIONS),
    "session_create_failures_total": Counter("failures", ("reason",), FAILURES),
    "session_ends_total": Counter("ends", ("reason",), END_REASONS),
    "session_ids_checked_total": Counter("ids", ("id_kind", "format"), tuple(ID_CHECKS)),
}
EVENTS_LOST: Final = "session_exporter_events_lost_total"
LATE_EVENTS: Final = "session_exporter_late_events_total"
EXPORTER_COUNTERS: Final = (EVENTS_LOST, LATE_EVENTS)
# Every instance has these, in every scope, and whoever forwards only the other one; work moves them.
CENSUS: Final = ("session_creates_total", "session_reuses_total")
EXPORTER_CENSUS: Final = "session_exporter_config_last_reload_successful"
# When counting began, as OpenMetrics has it: of a scope, and of an exporter, which has one series for each loss.
SCOPE_BORN: Final = "session_creates_created"
EXPORTER_BORN: Final = "session_exporter_events_lost_created"
_ONE_LOSS: Final = 'reason="malformed",kind="unknown"'

# As many as fit into an address.
AMONG_MAX: Final = 50
OWN_LABELS: Final = ("scope", "cause", "reason", "kind", "id_kind", "format")
# Others (Prometheus 3 has them) cannot stand in a selector of an older one.
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TEXT: Final = r'"(?:[^"\\\n]|\\.)*"'
_MATCHER: Final = re.compile(rf"\s*{_LABEL.pattern}\s*(?:=~|!~|!=|=)\s*(?:{_TEXT}|'(?:[^'\\\n]|\\.)*')\s*")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which series are meant.

    Attributes:
        matchers: Label matchers as PromQL has them, `namespace="shop",cluster!="test"`; `""` for all.
        scope: One scope, or None for all.
    """

    matchers: str = ""
    scope: str | None = None

    def of_scopes(self, names: Iterable[str]) -> str:
        """Select metrics that have a scope."""
        return _selector(names, 'scope!=""' if self.scope is None else f"scope={quoted(self.scope)}", self.matchers)

    def of_exporters(self, names: Iterable[str]) -> str:
        """Select metrics that are an exporter's own."""
        return _selector(names, self.matchers)

    def births(self) -> tuple[str, str]:
        """Select when counting began: of scopes, and of exporters one series each."""
        return self.of_scopes((SCOPE_BORN,)), _selector((EXPORTER_BORN,), _ONE_LOSS, self.matchers)

    def at(self, target: Target) -> "Selection":
        """The same of one instance, and perhaps of others that only a label with an unusual name tells apart."""
        return self._and(*(f"{name}={quoted(value)}" for name, value in target if _LABEL.fullmatch(name)))

    def among(self, targets: Iterable[Target]) -> "Selection":
        """The same of some instances, and perhaps of others: what makes it no larger than need be."""
        names = {dict(target).get("instance", "") for target in targets}
        if len(names) > AMONG_MAX:
            return self
        return self._and(f"instance=~{quoted('|'.join(sorted(map(re.escape, names))))}")

    def _and(self, *matchers: str) -> "Selection":
        return Selection(",".join(filter(None, (self.matchers, *matchers))), self.scope)


def read_matchers(text: str) -> str:
    """Read what a person typed: label matchers, with or without braces.

    Raises:
        ValueError: They are none; the message says what was expected.
    """
    inside = text.strip()
    if inside.startswith("{") and inside.endswith("}"):
        inside = inside[1:-1]
    position, matchers = 0, []
    while match := _MATCHER.match(inside, position):
        matchers.append(match[0].strip())
        position = match.end()
        if not inside.startswith(",", position):
            break
        position += 1
    if not matchers or inside[position:].strip():
        raise ValueError("""expected label matchers, such as 'namespace="shop",cluster!="test"'""")
    return ",".join(matchers)


def quoted(text: str) -> str:
    """Write a text as PromQL quotes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def over(seconds: float) -> str:
    """Write a range as PromQL has it, to the millisecond and never empty."""
    return f"[{max(1, round(seconds * 1000))}ms]"


def target_of(labels: dict[str, str]) -> Target:
    """Whose series it is."""
    return tuple(sorted((name, value) for name, value in labels.items() if name not in ("__name__", *OWN_LABELS)))


def _selector(names: Iterable[str], *matchers: str) -> str:
    listed = "|".join(names)
    named = f'__name__=~"{listed}"' if "|" in listed else f'__name__="{listed}"'
    return "{" + ",".join(filter(None, (named, *matchers))) + "}"
