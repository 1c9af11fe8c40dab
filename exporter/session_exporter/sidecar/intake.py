"""Where an engine's events come from: the journal of one host or pod, or the streams that many journals went into."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from session_exporter.config import Config
from session_exporter.core.events import FleetEvent, Writer
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.shares import Share
from session_exporter.journal import Batch as JournalBatch
from session_exporter.journal import Control, JournalReader
from session_exporter.sidecar.identity import JournalMark
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.progress import Counting
from session_exporter.sidecar.records import JOURNAL, ExporterState, Identity
from session_exporter.sidecar.snapshot import Role
from session_exporter.sidecar.state import State
from session_exporter.sidecar.transport import StreamFigures
from session_exporter.sidecar.workers import absorb, hooks_of


class Piece(Protocol):
    """Events of one writer, in the order written."""

    @property
    def events(self) -> Sequence[FleetEvent]:
        """The events; may be empty."""

    @property
    def writer(self) -> Writer:
        """Who wrote them."""

    @property
    def unknown(self) -> int:
        """Events of kinds that this version does not know."""


class EventReader(Protocol):
    """What is read from; none of it raises because there is nothing to be had now."""

    def mark(self) -> Any:
        """See what there is at this moment, for `passed`."""

    def passed(self, mark: Any) -> bool:
        """Whether all has been read that there was at the mark."""

    def read(self) -> Piece | None:
        """The next events; None when all has been read that the last mark saw."""

    def has_more(self) -> bool:
        """Whether there is more to read without waiting for anybody."""

    def behind_us(self) -> int | None:
        """The least event time that may still come from what is known of; None when nothing may."""

    def close(self) -> None:
        """Close everything, and give locks back. Idempotent."""


class Intake(Protocol):
    """One source of events, as an engine uses it; for one thread at a time.

    Attributes:
        role: Whose metrics are shown.
        is_whole: Whether nothing comes from elsewhere: when it is stopped, all that waits can be judged.
    """

    role: Role
    is_whole: bool

    @property
    def shows_time(self) -> bool:
        """Whether `now_us` is the clock by which events are timed; until it is, nothing is judged."""

    @property
    def reader(self) -> EventReader:
        """What was opened last."""

    @property
    def place(self) -> str:
        """Where the events come from, for people."""

    @property
    def up(self) -> bool:
        """Whether that can be reached. Any thread may ask."""

    def source(self, config: Config) -> str:
        """What a state has to be of to be used with it; as `records.Identity.source`."""

    def check(self, config: Config) -> None:
        """Refuse a configuration under which it does not work; raises ConfigError."""

    def share(self, config: Config) -> Share | None:
        """Which part of a fleet it is; None when there is no fleet."""

    def names(self, key: bytes, config: Config) -> Pseudonyms:
        """The digests of the ids that come from it."""

    def ledger(self, config: Config, rules: Mapping[str, ScopeRules], **arguments: Any) -> Ledger:
        """An empty ledger for its events."""

    def open(self, state: State, config: Config, identity: Identity) -> None:
        """Read from where the state has committed; what was open before is closed."""

    def close(self) -> None:
        """Close the reader, and what belongs to it."""

    def now_us(self) -> int:
        """The time; microseconds since the Unix epoch."""

    def was_read_by_another(self, identity: Identity) -> bool:
        """Whether another state, which must be lost, has counted before; for a state that was never committed."""

    def learn(self, progress: Counting) -> None:
        """Learn from what can be read again, without counting what that state may have counted."""

    def count(self, exporter: ExporterState) -> None:
        """Add what was counted elsewhere than in the ledger since the last time; before each commit."""

    def missing(self, batch: Any) -> Mapping[str, int]:
        """Events that came with a batch and cannot be counted, by reason."""

    def positions(self) -> Positions:
        """How far was read, for a commit."""

    def settle(self, positions: Positions, identity: Identity, watermark_us: int) -> None:
        """Note, and tell whom it concerns, that this is committed."""

    def controls(self) -> list[Control]:
        """What workers say of themselves, as of the last `count`."""

    def journal_bytes(self) -> int:
        """The size of all segments."""

    def stream_figures(self, exporter: ExporterState) -> StreamFigures:
        """What is to be shown of streams."""


class JournalIntake:
    """The journal of this host or pod; as `Intake`.

    Args:
        directory: Where the workers write.
        clock_ns: Nanoseconds since the Unix epoch.

    Raises:
        JournalUnavailable: The journal's directory cannot be made or written.
        StateLocked: Another sidecar reads it.
    """

    role: Role = "journal"
    is_whole = True
    shows_time = True
    up = True

    def __init__(self, directory: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.directory = directory
        self.reader = JournalReader(directory, {})
        self._clock_ns = clock_ns
        self._mark = JournalMark(directory)
        self._controls: list[Control] = []
        self._last_words: list[str] = []

    @property
    def place(self) -> str:
        """As of `Intake`."""
        return str(self.directory)

    def source(self, config: Config) -> str:  # noqa: ARG002 - of streams it says how many there are
        """As of `Intake`."""
        return JOURNAL

    def check(self, config: Config) -> None:
        """Every configuration will do."""

    def share(self, config: Config) -> Share | None:  # noqa: ARG002 - a fleet's says how many parts there are
        """As of `Intake`: none."""
        return None

    def names(self, key: bytes, config: Config) -> Pseudonyms:
        """As of `Intake`."""
        return Pseudonyms(key, show_ids=config.privacy.show_ids)

    def ledger(self, config: Config, rules: Mapping[str, ScopeRules], **arguments: Any) -> Ledger:  # noqa: ARG002
        """As of `Intake`."""
        return Ledger(rules, **arguments)

    def open(self, state: State, config: Config, identity: Identity) -> None:  # noqa: ARG002 - a stream needs them
        """As of `Intake`."""
        self.reader.close()
        self.reader = JournalReader(self.directory, state.positions())
        self.reader.lock()

    def close(self) -> None:
        """As of `Intake`."""
        self.reader.close()

    def now_us(self) -> int:
        """As of `Intake`."""
        return self._clock_ns() // 1000

    def was_read_by_another(self, identity: Identity) -> bool:
        """As of `Intake`."""
        return self._mark.names_another(identity)

    def learn(self, progress: Counting) -> None:
        """Read all there is, and judge it at once: which of it was counted before, nobody knows."""
        mark = progress.scan()
        while not self.reader.passed(mark) and progress.read(float("inf")):
            pass
        progress.ledger.finish(self.now_us())
        absorb(progress.exporter, self.reader.controls())

    def count(self, exporter: ExporterState) -> None:
        """As of `Intake`: what workers count themselves."""
        self._controls = self.reader.controls()
        self._last_words = absorb(exporter, self._controls, self.reader.gone(list(exporter.writers)))
        exporter.journal_directory = self.place
        exporter.workers = sum(control.alive for control in self._controls)
        exporter.hooks = [hooks_of(control) for control in self._controls if control.alive]

    def missing(self, batch: JournalBatch) -> Mapping[str, int]:
        """As of `Intake`: what is damaged, and what this version does not know."""
        return {"unknown_kind": batch.unknown, "malformed": batch.malformed}

    def positions(self) -> Positions:
        """As of `Intake`."""
        return Positions(self.reader.positions())

    def settle(self, positions: Positions, identity: Identity, watermark_us: int) -> None:  # noqa: ARG002 - the fleet's
        """As of `Intake`: what is covered is deleted."""
        self._mark.write(identity)
        self.reader.release(positions.journal)
        self.reader.retire(self._last_words)

    def controls(self) -> list[Control]:
        """As of `Intake`."""
        return self._controls

    def journal_bytes(self) -> int:
        """As of `Intake`."""
        return self.reader.size_bytes()

    def stream_figures(self, exporter: ExporterState) -> StreamFigures:  # noqa: ARG002 - there are none
        """As of `Intake`: none."""
        return StreamFigures()
