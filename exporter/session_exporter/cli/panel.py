"""The live view of --watch, drawn with rich: the verdict, the figures, sparklines, the newest incidents."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from session_exporter.cli.documents import ShownIncident, ShownMinute, Summary
from session_exporter.cli.plain import Marks, encodable, inert_lines, window_text
from session_exporter.cli.report import health_lines, total_lines, user_lines
from session_exporter.cli.stories import gap_text, moment, time_text
from session_exporter.cli.watch import Reading, View
from session_exporter.core.plaintext import inert

_LABEL_CHARS: Final = 12
_PEAK_CHARS: Final = 12
_SPARKS_MIN: Final = 8
_VERDICTS: Final = {
    True: ("HEALTHY", "bold green"),
    False: ("UNHEALTHY", "bold red"),
    None: ("CANNOT TELL", "bold yellow"),
}
_SERIES: Final[tuple[tuple[str, Callable[[ShownMinute], int], str], ...]] = (
    ("creates", lambda minute: minute.creates, "cyan"),
    ("reuses", lambda minute: minute.reuses, "green"),
    ("duplicates", lambda minute: minute.rapid_duplicate_creates, "red"),
)


@contextmanager
def live(stream: TextIO, marks: Marks) -> Iterator[Callable[[View], None]]:
    """Draw views in place on a terminal; the last one stays when the context ends.

    Args:
        stream: The terminal.
        marks: What it can show.

    Yields:
        Draws a view; sized to the terminal as it is at that moment.
    """
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as display:
        yield lambda view: display.update(Panel(view, marks, stream.encoding), refresh=True)


@dataclass(frozen=True, slots=True)
class Panel:
    """One view as a rich renderable; wraps or crops to whatever width it is given."""

    view: View
    marks: Marks
    encoding: str | None = "utf-8"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, top to bottom."""
        for line in self._lines(options.max_width):
            line.plain = encodable(line.plain, self.encoding)
            yield line

    def _lines(self, width: int) -> Iterable[Text]:
        reading = self.view.reading
        if self.view.failure:
            yield from self._failure()
        if reading is None:
            return
        # What is no longer current is still shown, but nobody shall take it for the present.
        faded = "dim" if self.view.failure else ""
        for line in _reading_lines(reading, self.marks, width):
            line.stylize(faded)
            yield line

    def _failure(self) -> Iterable[Text]:
        yield Text("NO SIDECAR", style="bold yellow")
        yield Text(f"{inert_lines(self.view.failure)}; asking again")
        if self.view.reading is not None:
            yield Text("The last answer:")
        yield Text("")


def _reading_lines(reading: Reading, marks: Marks, width: int) -> Iterable[Text]:
    summary = reading.summary
    yield _cropped(f"last {window_text(summary.window_seconds)}, {time_text(summary.generated_at)}, {reading.origin}")
    yield from ([Text(reading.note, style="yellow")] if reading.note else [])
    yield Text(*_VERDICTS[summary.healthy])
    yield from (Text(f"  {line}") for line in health_lines(summary, marks))
    yield Text("")
    yield from map(_cropped, (*total_lines(summary.total), *user_lines(summary)))
    yield Text("")
    yield from _sparklines(summary, marks, max(_SPARKS_MIN, width - _LABEL_CHARS - _PEAK_CHARS))
    yield from _newest(reading.incidents)


def _cropped(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="crop")


def _sparklines(summary: Summary, marks: Marks, columns: int) -> Iterable[Text]:
    for name, count, style in _SERIES:
        counts = per_column(summary, count, columns)
        line = _cropped(f"{name:<{_LABEL_CHARS}}")
        line.append(spark(counts, marks.sparks), style=style)
        line.append(f" peak {max(counts, default=0)}")
        yield line


def per_column(summary: Summary, count: Callable[[ShownMinute], int], columns: int) -> list[int]:
    """Spread the minutes of the window, oldest first, over at most `columns` columns, each the sum of its minutes."""
    minutes = [(at, count(minute)) for minute in summary.minutes if (at := moment(minute.minute))]
    end = moment(summary.generated_at) or max((at for at, _ in minutes), default=None)
    columns = max(1, min(columns, round(summary.window_seconds / 60)))
    counts = [0] * columns
    for at, number in minutes:
        if end is not None:
            counts[_column(at, end, summary.window_seconds, columns)] += number
    return counts


def _column(at: datetime, end: datetime, window_s: float, columns: int) -> int:
    """The column of the minute that began at `at`; the last one is the minute in which the window ends."""
    age_s = (end.replace(second=0, microsecond=0) - at) / timedelta(seconds=1)
    return min(max(columns - 1 - int(age_s * columns / max(window_s, 60.0)), 0), columns - 1)


def spark(counts: Sequence[int], sparks: str) -> str:
    """Draw counts as characters of growing height; only 0 has the lowest one, the largest count has the highest."""
    peak, steps = max(counts, default=0), len(sparks) - 1
    return "".join(sparks[-(-count * steps // peak) if count else 0] for count in counts)


def _newest(incidents: Sequence[ShownIncident]) -> Iterable[Text]:
    if not incidents:
        return
    yield Text("")
    yield Text("Newest incidents", style="bold")
    yield from (_cropped(f"  {_brief(incident)}") for incident in incidents)


def _brief(incident: ShownIncident) -> str:
    at = moment(incident.at)
    time_of_day = f"{at:%H:%M:%S}" if at else "?"
    facts = (incident.cause or incident.reason, incident.scope, gap_text(incident.gap_ms), incident.user, incident.id)
    return "  ".join((time_of_day, incident_name(incident), *(inert(fact) for fact in facts if fact)))


def incident_name(incident: ShownIncident) -> str:
    """A short word for an incident's kind: `duplicate`, `loss`; another kind's own name."""
    return {"rapid_duplicate_create": "duplicate", "context_loss": "loss"}.get(incident.kind, inert(incident.kind))
