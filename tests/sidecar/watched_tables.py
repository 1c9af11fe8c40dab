"""What a watch would hand to a sidecar's engine, without the watch."""

from collections.abc import Mapping

from sidecars import Sidecar

from session_exporter.core.rows import NEW, Row, take_rows
from session_exporter.sidecar.census import take_census
from session_exporter.watch.findings import Census, Findings, TablePosition, Twin

PLACE = "main/chats/chat"


def watched(sidecar: Sidecar, *, read_s_ago: float = 0.0) -> None:
    """Let the table be read up to a time before now."""
    progress = sidecar.engine._progress
    before = progress.exporter.watches.get(PLACE)
    since_us = before.since_us if before else sidecar.now_us
    read_us = sidecar.now_us - round(read_s_ago * 1e6)
    progress.exporter.watches[PLACE] = TablePosition(since_us, read_us, read_us)
    sidecar.engine._committed = ()
    take_rows(progress.ledger, "chat", [], since_us=since_us, due_us=sidecar.now_us)


def rows_of(sidecar: Sidecar, sessions: Mapping[str, float], *, grace_s: float = 15.0) -> None:
    """Let the watch find rows, by session with how long ago they were created, seconds."""
    rows = [Row(NEW, sidecar.now_us - round(ago_s * 1e6), each, "ann") for each, ago_s in sessions.items()]
    progress = sidecar.engine._progress
    due_us = sidecar.now_us + round(grace_s * 1e6)
    take_rows(progress.ledger, "chat", rows, since_us=progress.exporter.watches[PLACE].since_us, due_us=due_us)


def census_of(sidecar: Sidecar, *twins: Twin, users: int | None = None, rows: int | None = 9) -> None:
    """Let a census find these users with several active sessions, or only so many of them."""
    census = Census(sidecar.now_us, rows, len(twins) if users is None else users, twins)
    position = TablePosition(1, 1, 1)
    progress = sidecar.engine._progress
    findings = Findings("main", "chats", "chat", [], position, sidecar.now_us, census)
    sidecar.engine._committed = ()
    take_census(progress.exporter, progress.ledger, findings)


def twin(user: str, *sessions: str, key: str = "", created_us: int = 0) -> Twin:
    """A user with these active sessions, the newest first."""
    times = tuple(created_us - 1000 * age for age in range(len(sessions))) if created_us else (0,) * len(sessions)
    return Twin(user, key, sessions, times, len(sessions))
