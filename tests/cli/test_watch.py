import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from session_exporter.cli.documents import incidents_of, summary_of
from session_exporter.cli.panel import Panel, live, per_column, spark
from session_exporter.cli.plain import ASCII, EMOJI, Marks
from session_exporter.cli.watch import Reading, View, watch
from session_exporter.errors import PeerError, StateError

DEADLINE_S = 20


def reading(document: dict[str, Any], *incidents: dict[str, Any]) -> Reading:
    found = tuple(incidents_of({"incidents": list(incidents)}))
    return Reading(document, summary_of(document), found, origin="http://127.0.0.1:9897")


def drawn(view: View, width: int = 100, marks: Marks = EMOJI, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=stream, width=width, markup=False).print(Panel(view, marks, encoding))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding).splitlines()


class Script:
    """Looks and waits as written down; the waits end with the interrupt that ends a watch."""

    def __init__(self, *looks: Reading | Exception) -> None:
        self.looks = list(looks)
        self.shown: list[View] = []
        self.waits: list[float] = []

    def look(self) -> Reading:
        found = self.looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if not self.looks:
            raise KeyboardInterrupt

    def run(self, show: Callable[[View], None] | None = None) -> int:
        return watch(self.look, show or self.shown.append, interval_s=2.0, wait=self.wait)


# --- the loop


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("unhealthy", 1), ("unknown", 2)])
def test_a_watch_ends_with_the_exit_code_of_what_was_shown_last(documents: Any, name: str, code: int) -> None:
    script = Script(reading(documents.unhealthy()), reading(getattr(documents, name)()))
    assert script.run() == code
    assert script.waits == [2.0, 2.0]


def test_a_watch_shows_what_it_last_knew_and_why_it_knows_no_more(documents: Any) -> None:
    known = reading(documents.healthy())
    script = Script(PeerError("refused"), known, StateError("gone"), known)
    assert script.run() == 0
    assert script.shown == [View(None, "refused"), View(known), View(known, "gone"), View(known)]


def test_a_watch_that_lost_its_sidecar_cannot_tell(documents: Any) -> None:
    assert Script(reading(documents.healthy()), PeerError("refused")).run() == 2


def test_a_watch_ends_when_nobody_reads_any_more(documents: Any) -> None:
    def show(_: View) -> None:
        raise BrokenPipeError

    assert Script(reading(documents.unhealthy())).run(show) == 1


def test_a_mistake_of_our_own_is_not_taken_for_an_absent_sidecar() -> None:
    with pytest.raises(ZeroDivisionError):
        Script(ZeroDivisionError()).run()


def test_the_handler_of_sigterm_is_put_back(documents: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    Script(reading(documents.healthy())).run()
    assert signal.getsignal(signal.SIGTERM) is before


# --- what is drawn


def test_the_view_shows_verdict_figures_sparklines_and_incidents(documents: Any) -> None:
    minutes = [
        {"minute": "2026-11-20T17:30:00Z", "creates": 2, "reuses": 7},
        {"minute": "2026-11-20T18:00:00Z", "creates": 1, "rapid_duplicate_creates": 2},
    ]
    document = documents.unhealthy() | {"minutes": minutes}
    lines = drawn(View(reading(document, documents.duplicate(), documents.loss())))
    assert [line.rstrip() for line in lines] == [
        "last 1h, 2026-11-20 18:00:30.000Z, http://127.0.0.1:9897",
        "UNHEALTHY",
        "  ⚠️  Session reuse ratio is BELOW TARGET (<95%)",
        "  ⚠️  ALERT: High session creation rate detected!",
        "  ⚠️  ALERT: 2 rapid duplicate creates (same_request 1, cross_worker 1)",
        "  ⚠️  ALERT: 1 context loss (reported 1)",
        "",
        "Sessions Created:        3",
        "Sessions Reused:         7",
        "Session Reuse Ratio:     70.00%",
        "Context Loss Incidents:  1",
        "Rapid Duplicate Creates: 2",
        "",
        "creates     " + "▁" * 29 + "█" + "▁" * 29 + "▅ peak 2",
        "reuses      " + "▁" * 29 + "█" + "▁" * 30 + " peak 7",
        "duplicates  " + "▁" * 59 + "█ peak 2",
        "",
        "Newest incidents",
        "  17:58:03  duplicate  cross_worker  conversation  116.2 ms  u:3f9a  d-1f3a9c0b2e",
        "  17:59:00  loss  reported  conversation  u:3f9a  l-77",
    ]


@pytest.mark.parametrize(("name", "verdict"), [("healthy", "HEALTHY"), ("unknown", "CANNOT TELL")])
def test_the_view_says_the_verdict(documents: Any, name: str, verdict: str) -> None:
    assert drawn(View(reading(getattr(documents, name)())))[1].strip() == verdict


def test_without_a_sidecar_the_view_says_so_and_keeps_the_last_answer(documents: Any) -> None:
    assert drawn(View(None, "refused"))[:2] == ["NO SIDECAR", "refused; asking again"]
    text = "\n".join(drawn(View(reading(documents.healthy()), "refused")))
    assert text.index("NO SIDECAR") < text.index("The last answer:") < text.index("18:00:30")


@pytest.mark.parametrize("width", [1, 2, 10, 20, 40, 79, 300])
def test_no_width_breaks_the_view(documents: Any, width: int) -> None:
    document = documents.unhealthy() | {"minutes": [{"minute": "2026-11-20T17:30:00Z", "creates": 2}]}
    view = View(reading(document, documents.duplicate()), "refused")
    assert all(len(line) <= width for line in drawn(view, width, ASCII))


def test_an_ascii_terminal_gets_ascii(documents: Any) -> None:
    incident = documents.duplicate() | {"user": "größer", "scope": "日本"}
    document = documents.unhealthy() | {"minutes": [{"minute": "2026-11-20T17:30:00Z", "creates": 2}]}
    assert all(line.isascii() for line in drawn(View(reading(document, incident)), 100, ASCII, "ascii"))


def test_hostile_text_neither_escapes_nor_styles(documents: Any) -> None:
    hostile = "\x1b[2J\u202e[red]x[/red]\n:boom:"
    incident = documents.duplicate() | {"user": hostile, "kind": hostile}
    lines = drawn(View(reading(documents.unhealthy() | {"problems": [hostile]}, incident), hostile), 300)
    assert all(line.isprintable() for line in lines)
    assert any(r"\x1b[2J\u202e[red]x[/red]\n:boom:" in line for line in lines)


# --- sparklines


@given(st.lists(st.integers(0, 10**12)), st.sampled_from([EMOJI.sparks, ASCII.sparks]))
def test_only_nothing_is_drawn_lowest_and_only_the_peak_class_highest(counts: list[int], sparks: str) -> None:
    line = spark(counts, sparks)
    assert [char == sparks[0] for char in line] == [count == 0 for count in counts]
    assert all(line[index] == sparks[-1] for index, count in enumerate(counts) if count and count == max(counts))
    heights = [sparks.index(char) for char in line]
    assert [height for _, height in sorted(zip(counts, heights, strict=True))] == sorted(heights)


MINUTES = st.lists(st.tuples(st.integers(-5, 2000), st.integers(0, 9)), max_size=30)


@given(MINUTES, st.integers(1, 200), st.integers(1, 86_400))
def test_no_minute_is_lost_between_the_columns(minutes: list[tuple[int, int]], columns: int, window_s: int) -> None:
    document = _with_minutes(minutes, window_s)
    counts = per_column(summary_of(document), lambda minute: minute.creates, columns)
    assert len(counts) <= columns
    assert sum(counts) == sum(count for _, count in minutes)


def test_minutes_keep_their_order_and_their_distance() -> None:
    document = _with_minutes([(0, 1), (1, 2), (5, 3)], 600)
    assert per_column(summary_of(document), lambda minute: minute.creates, 80) == [0, 0, 0, 0, 3, 0, 0, 0, 2, 1]
    assert per_column(summary_of(document), lambda minute: minute.creates, 5) == [0, 0, 3, 0, 3]


def test_a_time_that_is_none_is_left_out_of_the_sparklines() -> None:
    document = _with_minutes([(0, 1)], 600) | {"generated_at": "?"}
    document["minutes"].append({"minute": "?", "creates": 5})
    assert sum(per_column(summary_of(document), lambda minute: minute.creates, 10)) == 1


def _with_minutes(minutes: list[tuple[int, int]], window_s: int) -> dict[str, Any]:
    end_s = 1_790_000_000 // 60 * 60
    return {
        "healthy": True,
        "window_seconds": window_s,
        "generated_at": _iso(end_s + 30),
        "total": {"creates": 0, "reuses": 0, "operations": 0},
        "minutes": [{"minute": _iso(end_s - 60 * age), "creates": count} for age, count in minutes],
    }


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# --- on a terminal


class Terminal:
    """A process on a pseudo-terminal, and what it has written so far."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        self.primary, secondary = pty.openpty()
        # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored; that would be inherited.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from session_exporter.cli.view_metrics import main; main()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "--watch", "--interval", "100ms", *arguments],
            env={**inherited, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **environ},
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
        )
        os.close(secondary)
        self.text = ""
        self.deadline_s = time.monotonic() + DEADLINE_S

    def read_until(self, wanted: str) -> str:
        """Read on until `wanted` appears in what is new; returns what is new."""
        start = len(self.text)
        while wanted not in self.text[start:]:
            assert self._read(), f"never saw {wanted!r} in {self.text[start:][-2000:]!r}"
        return self.text[start:]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        while self._read():
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.primary], [], [], max(0.0, self.deadline_s - time.monotonic()))
        try:
            piece = os.read(self.primary, 65_536) if ready else b""
        except OSError:  # EIO: the last process on the terminal has ended
            piece = b""
        self.text += piece.decode("utf-8", "replace")
        return bool(piece)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.primary)


@contextmanager
def on_terminal(*arguments: str, **environ: str) -> Iterator[Terminal]:
    terminal = Terminal(*arguments, **environ)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_the_view_is_redrawn_and_the_cursor_comes_back(
    server: Any, documents: Any, number: signal.Signals
) -> None:
    server.summary(documents.healthy())
    server.incidents(documents.duplicate())
    with on_terminal("--url", server.url) as terminal:
        first = terminal.read_until("d-1f3a9c0b2e")
        assert "\x1b[?25l" in first
        assert "HEALTHY" in first
        server.summary(documents.unhealthy())
        terminal.read_until("BELOW TARGET")
        server.summary(b"", 500)
        terminal.read_until("NO SIDECAR")
        server.summary(documents.unhealthy())
        terminal.read_until("UNHEALTHY")
        terminal.read_until("UNHEALTHY")
        assert terminal.end(number) == 1
        assert "\x1b[?25h" in terminal.text
        assert "Traceback" not in terminal.text


def test_without_colour_the_view_has_none(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    server.incidents()
    with on_terminal("--url", server.url, NO_COLOR="1") as terminal:
        text = terminal.read_until("peak") + terminal.read_until("peak")
    styles = {code for match in re.findall(r"\x1b\[([0-9;]*)m", text) for code in match.split(";")}
    assert styles <= {"", "0", "1", "2"}


def test_a_dumb_terminal_gets_one_report_after_the_other(server: Any, documents: Any) -> None:
    server.summary(documents.healthy())
    with on_terminal("--url", server.url, TERM="dumb") as terminal:
        terminal.read_until("HEALTHY")
        terminal.read_until("HEALTHY")
        assert terminal.end(signal.SIGINT) == 0
        assert "\x1b" not in terminal.text


def test_an_ascii_locale_gets_an_ascii_view(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy() | {"problems": ["größer"]})
    server.incidents()
    with on_terminal("--url", server.url, LC_ALL="C", PYTHONUTF8="0") as terminal:
        assert "____" in terminal.read_until("peak 0")
        assert terminal.end(signal.SIGINT) == 1
        assert terminal.text.isascii()


def test_a_terminal_a_few_characters_wide_does_not_end_the_watch(server: Any, documents: Any) -> None:
    server.summary(documents.unhealthy())
    server.incidents(documents.duplicate())
    with on_terminal("--url", server.url, COLUMNS="7", LINES="3") as terminal:
        terminal.read_until("UNHEAL")
        terminal.read_until("UNHEAL")
        assert terminal.end(signal.SIGINT) == 1


def test_the_live_view_draws_to_the_stream_it_is_given(documents: Any) -> None:
    stream = io.StringIO()
    with live(stream, EMOJI) as draw:
        draw(View(reading(documents.healthy())))
    assert "HEALTHY" in stream.getvalue()
