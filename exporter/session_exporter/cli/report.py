"""What view-metrics prints: a summary document as text. Pure; the judgement comes with the document."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from session_exporter.cli.documents import ScopeSummary, Summary, Window, summary_of
from session_exporter.cli.plain import EMOJI, Marks, counted, ratio_text, target_text, window_text
from session_exporter.core.plaintext import inert

RULE: Final = "=" * 70
NAMES_MAX: Final = 8
SHAPES_MAX: Final = 3
NOTES_MAX: Final = 20
# Problems that have a line of their own; the document says them as sentences.
_WORDED: Final = ("rapid duplicate", "context loss", "reuse ratio", "create rate", "creation rate")


def report(
    document: Mapping[str, Any],
    *,
    marks: Marks = EMOJI,
    source: Sequence[str] = (),
    details: Sequence[str] | None = None,
    newest: Sequence[str] = (),
) -> str:
    """Write a summary document as the report that people read.

    Args:
        document: As `/api/v1/summary` answers.
        marks: What the terminal can show.
        source: The arguments that say where the document came from, repeated in the commands to type next.
        details: The arguments that name who can tell more; None for the same, empty when nobody can.
        newest: The arguments of the command that explains the newest incident; empty when there is none.

    Returns:
        Lines, without a newline at the end.

    Raises:
        PeerError: The document is no summary.
    """
    summary = summary_of(document)
    blocks = [_heading(), [*total_lines(summary.total), *user_lines(summary)], _scope_table(summary)]
    blocks.append(["Health Status:", *(f"  {line}" for line in health_lines(summary, marks))])
    blocks.extend((_look_next(_steps(summary, source, details, newest)), _notes(summary)))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _heading() -> list[str]:
    return [RULE, "SESSION MANAGEMENT METRICS", RULE]


def total_lines(total: Window) -> list[str]:
    """The figures of a window, in two columns: five, and those of ids where there are any."""
    rows = (
        ("Sessions Created:", str(total.creates)),
        ("Sessions Reused:", str(total.reuses)),
        ("Session Reuse Ratio:", ratio_text(total.reuse_ratio)),
        ("Context Loss Incidents:", str(total.context_losses)),
        ("Rapid Duplicate Creates:", str(total.rapid_duplicate_creates)),
    )
    return [f"{name:<24} {value}" for name, value in (*rows, *_id_rows(total))]


def user_lines(summary: Summary) -> list[str]:
    """How many users have several active sessions, where a database is asked."""
    users = summary.duplicate_active_users
    return [] if users is None else [f"{'Duplicate Active Users:':<24} {users}"]


def _id_rows(total: Window) -> Iterable[tuple[str, str]]:
    """What is told of ids, where any were checked or did not match."""
    if total.ids_checked:
        parts = "; ".join(_wrong_ids(kind, total) for kind, forms in total.ids_by_kind.items() if _wrong(forms))
        yield "Id Format Compliance:", f"{ratio_text(total.id_compliance)} (target 100%) {parts}".rstrip()
    if total.id_mismatches:
        yield "Id Mismatches:", str(total.id_mismatches)


def _wrong(forms: Mapping[str, int]) -> dict[str, int]:
    return {form: forms[form] for form in ("invalid", "legacy") if forms.get(form)}


def _wrong_ids(kind: str, total: Window) -> str:
    shapes = total.id_shapes.get(kind, {})
    parts = [
        f"{count} {form}{_shapes(shapes.get(form, {}))}" for form, count in _wrong(total.ids_by_kind[kind]).items()
    ]
    return f"{inert(kind)}: {', '.join(parts)}"


def _shapes(counts: Mapping[str, int]) -> str:
    """The shapes, the most frequent first, with their counts unless there is but one."""
    ranked = sorted(counts, key=lambda shape: -counts[shape])
    shown = [inert(shape) if len(counts) == 1 else f"{inert(shape)} {counts[shape]}" for shape in ranked[:SHAPES_MAX]]
    more = [f"{len(ranked) - SHAPES_MAX} more"] if len(ranked) > SHAPES_MAX else []
    return f" ({', '.join([*shown, *more])})" if shown else ""


def _scope_table(summary: Summary) -> list[str]:
    scopes = summary.eventful_scopes
    if len(scopes) < 2:  # noqa: PLR2004 - one scope says what the totals say
        return []
    header = ("Scope", "Created", "Reused", "Ratio", "Target", "Losses", "Duplicates")
    return aligned([header, *(_scope_row(name, scope) for name, scope in scopes.items())])


def _scope_row(name: str, scope: ScopeSummary) -> tuple[str, ...]:
    window = scope.window
    counts = (window.context_losses, window.rapid_duplicate_creates)
    ratio, target = ratio_text(window.reuse_ratio), target_text(scope.reuse_target)
    return (inert(name), str(window.creates), str(window.reuses), ratio, target, *map(str, counts))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows of equal length in columns, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows]


def health_lines(summary: Summary, marks: Marks = EMOJI) -> list[str]:
    """The lines below "Health Status:", the ratio first, one line per problem."""
    if summary.healthy is None:
        return [f"{marks.unknown} {_cannot_tell(summary)}"]
    warnings = [] if summary.healthy else [f"{marks.warning} {line}" for line in _alerts(summary)]
    return [*_ratio_lines(summary, marks), *warnings]


def _cannot_tell(summary: Summary) -> str:
    window = window_text(summary.window_seconds)
    if summary.total.operations == 0:
        return f"No session traffic in the last {window}"
    return f"It cannot be told whether the last {window} was healthy"


def _ratio_lines(summary: Summary, marks: Marks) -> list[str]:
    judged = {name: scope for name, scope in summary.scopes.items() if scope.window.reuse_ratio is not None}
    if not judged:
        return [f"{marks.unknown} No creates or reuses in the last {window_text(summary.window_seconds)}"]
    below = {} if summary.healthy else {name: scope for name, scope in judged.items() if _is_below(scope)}
    if not below:
        return [f"{marks.healthy} Session reuse ratio is HEALTHY ({_targets(judged, marks)})"]
    return [f"{marks.warning} Session reuse ratio is BELOW TARGET {line}" for line in _below(below, len(judged))]


def _is_below(scope: ScopeSummary) -> bool:
    return scope.window.reuse_ratio is not None and scope.window.reuse_ratio < scope.reuse_target


def _by_target(scopes: Mapping[str, ScopeSummary]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, scope in scopes.items():
        groups.setdefault(target_text(scope.reuse_target), []).append(name)
    return groups


def _targets(scopes: Mapping[str, ScopeSummary], marks: Marks) -> str:
    groups = _by_target(scopes)
    if len(groups) == 1:
        return f"{marks.at_least}{next(iter(groups))}"
    return "; ".join(f"{marks.at_least}{target} {_listed(names)}" for target, names in groups.items())


def _below(scopes: Mapping[str, ScopeSummary], judged: int) -> list[str]:
    if judged == 1:
        return [f"(<{target})" for target in _by_target(scopes)]
    return [f"(<{target}): {_listed(names)}" for target, names in _by_target(scopes).items()]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(map(inert, names[:NAMES_MAX])) + (f" and {more} more" if more > 0 else "")


def _alerts(summary: Summary) -> list[str]:
    total = summary.total
    lines = [*_create_rate(summary)]
    if total.rapid_duplicate_creates:
        text = counted(total.rapid_duplicate_creates, "rapid duplicate create")
        lines.append(f"ALERT: {text}{_split(total.duplicates_by_cause)}")
    if total.context_losses:
        text = counted(total.context_losses, "context loss", "context losses")
        lines.append(f"ALERT: {text}{_split(total.losses_by_reason)}")
    return [*lines, *_other_problems(summary)]


def _create_rate(summary: Summary) -> Iterable[str]:
    high = [name for name, scope in summary.scopes.items() if scope.window.high_create_rate]
    if not high and not summary.total.high_create_rate:
        return ()
    named = f" ({_listed(high)})" if high and len(summary.eventful_scopes) > 1 else ""
    return (f"ALERT: High session creation rate detected!{named}",)


def _other_problems(summary: Summary) -> list[str]:
    """Problems without a line of their own: a newer sidecar may judge by more than this version knows."""
    return [f"ALERT: {inert(problem)}" for problem in summary.problems if not _is_worded(problem)]


def _is_worded(problem: str) -> bool:
    return any(words in problem.lower() for words in _WORDED)


def _split(counts: Mapping[str, int]) -> str:
    parts = [f"{inert(name)} {count}" for name, count in counts.items() if count]
    return f" ({', '.join(parts)})" if parts else ""


def _look_next(steps: Iterable[tuple[Sequence[str], str]]) -> list[str]:
    commands = [(inert(shlex.join(command)), reason) for command, reason in steps]
    width = max((len(command) for command, _ in commands), default=0)
    lines = [f"  {command:<{width}}  # {reason}" for command, reason in commands]
    return ["Look next:", *lines] if lines else []


def _steps(
    summary: Summary, source: Sequence[str], details: Sequence[str] | None, newest: Sequence[str]
) -> Iterable[tuple[Sequence[str], str]]:
    if summary.healthy is None and summary.total.operations == 0:
        yield ["session-exporter", "tail"], "are events recorded at all?"
        yield ["view-metrics", "--since", _longer(summary.window_seconds), *source], "was there any before?"
    elif summary.healthy is False:
        if newest:
            yield newest, "the newest: why, and what to change"
        if details is None or details:
            yield from _details(summary, source if details is None else details)
        if summary.duplicate_active_users:
            yield ["session-exporter", "audit", "db", "--help"], "SQL that ends duplicates, and an index against them"


def _details(summary: Summary, source: Sequence[str]) -> Iterable[tuple[Sequence[str], str]]:
    window = window_text(summary.window_seconds)
    if summary.duplicate_active_users:
        kind = ["--kind", "duplicate_active_user", "--since", "30d"]
        yield ["view-metrics", "incidents", *kind, *source], "users with several active sessions"
    if _has_incidents(summary.total):
        yield ["view-metrics", "incidents", "--since", window, *source], "each with its call sites"
    if summary.total.redundant_lookups:
        yield ["view-metrics", "lookups", "--since", window, *source], "lookups that requests could spare"
    yield ["view-metrics", "--watch", "--since", window, *source], "minute by minute: when did it begin?"


def _has_incidents(total: Window) -> bool:
    return bool(total.rapid_duplicate_creates or total.context_losses or total.isolation_violations)


def _longer(window_s: float) -> str:
    return "24h" if window_s < 86_400 else "7d" if window_s < 604_800 else "30d"  # noqa: PLR2004 - a day, a week


def _notes(summary: Summary) -> list[str]:
    lost, hint = summary.exporter.events_lost, summary.exporter.hint
    notes = [f"{counted(lost, 'event was', 'events were')} lost before being counted: the true figures are higher"]
    notes = [
        *(notes if lost else ()),
        *([inert(hint)] if hint else ()),
        *map(inert, summary.exporter.notes[:NOTES_MAX]),
    ]
    lines = [f"  {note}" for note in notes]
    return ["Note:", *lines] if lines else []
