"""What one forwarder process works with: the journal of a host or pod, the way to Redis, and the counts it exposes."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from session_exporter.config import Config
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.totals import LedgerTotals
from session_exporter.errors import ConfigError, StreamUnavailable
from session_exporter.journal import Control, JournalReader
from session_exporter.journal.files import new_replica
from session_exporter.sidecar.identity import JournalMark
from session_exporter.sidecar.podstate import PodFile, PodState
from session_exporter.sidecar.secrets import check_value, read_key
from session_exporter.sidecar.snapshot import ExporterTotals, Snapshot
from session_exporter.sidecar.transport import ForwardFigures
from session_exporter.sidecar.workers import Reloads, absorb, expose
from session_exporter.stream.entries import VERSION, Layout
from session_exporter.stream.forwarder import Forwarder
from session_exporter.stream.server import StreamServer

# How often counts are saved while nothing waits for it.
SAVE_EVERY_S: Final = 1.0

logger = logging.getLogger(__name__)


class Pod:
    """Forwards a journal, and keeps count; for one thread at a time.

    Args:
        config: The configuration in force.
        journal_directory: Where the workers write.
        state_directory: Where counts are kept.
        reloads: What to expose of the configuration's reloads.
        clock_ns: Nanoseconds since the Unix epoch.

    Attributes:
        snapshot: What the last cycle left; None before the first one.
        send_every_s: How long to wait between cycles, seconds.

    Raises:
        ConfigError: There is no URL, or no key that others share; or ids are to be shown.
        StateLocked: Another process reads the journal or owns the directory of the counts.
        StateError: Its directory, or the key, cannot be had.
        StreamRefused: Redis does not let us in, or is of another fleet.
    """

    def __init__(
        self,
        config: Config,
        journal_directory: Path,
        state_directory: Path,
        *,
        reloads: Reloads,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.snapshot: Snapshot | None = None
        self._reloads = reloads
        self._clock_ns = clock_ns
        self._save_at_s = float("-inf")
        key, server = _fleet(config)
        self._file = PodFile(state_directory)
        self._journal = JournalReader(journal_directory, {}, locating=True)
        self._mark = JournalMark(journal_directory)
        try:
            self._journal.lock()
            self._state = self._load(key)
            self._forwarder = self._make(config, key, server)
            self._forwarder.open()
        except BaseException:
            server.close()
            self._release_all()
            raise

    @property
    def is_drained(self) -> bool:
        """Whether the last cycle has sent all that was there when it began."""
        return self._forwarder.is_drained

    @property
    def has_more(self) -> bool:
        """Whether it had more to send than there was time for."""
        return self._forwarder.has_more

    def workers(self) -> int:
        """The workers that are still alive."""
        return self._journal.workers()

    def cycle(self, budget_s: float) -> Snapshot:
        """Send what there is, delete what is committed, and count.

        Args:
            budget_s: After this long what is left to be sent is left for later.

        Raises:
            JournalError: The journal's directory was lost to somebody else, or cannot be made again.
        """
        self._forwarder.cycle(budget_s)
        controls = self._journal.controls()
        exporter = self._state.exporter
        last_words = absorb(exporter, controls, self._journal.gone(list(exporter.writers)))
        if (last_words or time.monotonic() >= self._save_at_s) and self._save():
            self._journal.retire(last_words)
        self.snapshot = self._expose(controls)
        return self.snapshot

    def reload(self, config: Config) -> None:
        """Go on under another configuration.

        Raises:
            ConfigError: It is none for a forwarder.
            StateError: The key cannot be read.
            StreamRefused: Its Redis does not let us in, or is of another fleet.
        """
        key, server = _fleet(config)
        try:
            server.connect()
            server.agree(_layout(config, key))
        except StreamUnavailable as error:
            logger.warning("reloaded all the same: %s", error)
        except BaseException:
            server.close()
            raise
        self._forwarder.close()
        self._forwarder = self._make(config, key, server)

    def close(self, *, leaving: bool) -> None:
        """Save the counts and give all locks back.

        Args:
            leaving: Everything was sent, so that consumers need not wait for us.
        """
        left = {"unsent_bytes": self._journal.unread_bytes(), "journal_bytes": self._journal.size_bytes()}
        try:
            if leaving:
                self._forwarder.leave()
            self._forwarder.close()
            self._save()
        finally:
            self._release_all()
        logger.log(logging.INFO if leaving else logging.WARNING, "stopped", extra={"all_sent": leaving, **left})

    def _release_all(self) -> None:
        self._journal.close()
        self._file.close()

    def _load(self, key: bytes) -> PodState:
        state = self._file.load(ids=check_value(key), now_us=self._now_us())
        if state.is_new and self._mark.names_another(state.identity):
            self._journal.scan()
            absorb(state.exporter, self._journal.controls())
            state.exporter.lost, state.exporter.hook_errors, state.exporter.counts = {}, {}, {}
            logger.warning("the counts of this journal are lost: counting begins anew")
        return state

    def _make(self, config: Config, key: bytes, server: StreamServer) -> Forwarder:
        self.send_every_s = config.stream.send_every_us / 1e6
        forwarder = Forwarder(
            config,
            self._journal,
            server=server,
            names=Pseudonyms(key),
            layout=_layout(config, key),
            tallies=self._state.tallies,
            replica=config.replica or new_replica(),
            predecessor=self._state.forwarder,
            clock_ns=self._clock_ns,
        )
        self._state.forwarder = forwarder.id
        return forwarder

    def _save(self) -> bool:
        if not self._file.save(self._state):
            return False
        self._mark.write(self._state.identity)
        self._save_at_s = time.monotonic() + SAVE_EVERY_S
        return True

    def _expose(self, controls: list[Control]) -> Snapshot:
        exporter = self._state.exporter
        exporter.workers = sum(control.alive for control in controls)
        totals = expose(
            exporter,
            controls,
            drains=exporter.drains,
            born_us=self._state.identity.born_us,
            journal_bytes=self._journal.size_bytes(),
            lag_us=self._forwarder.lag_us(),
            reloads=self._reloads,
        )
        return Snapshot(
            LedgerTotals(), self._now_us(), self._with_losses(totals), role="forward", forward=self._figures()
        )

    def _with_losses(self, totals: ExporterTotals) -> ExporterTotals:
        tallies = self._state.tallies
        lost = {("unknown_kind", "unknown"): tallies.unknown_kinds, ("malformed", "unknown"): tallies.malformed}
        return replace(totals, events_lost={**totals.events_lost, **lost})

    def _figures(self) -> ForwardFigures:
        tallies, forwarder = self._state.tallies, self._forwarder
        return ForwardFigures(
            up=forwarder.up,
            forwarded_events=tallies.forwarded,
            resent_events=tallies.resent,
            errors=dict(tallies.errors),
            uncommitted_bytes=forwarder.uncommitted_bytes(),
            released_early_segments=tallies.released_early,
            clock_skew_s=forwarder.clock.skew_us / 1_000_000,
        )

    def _now_us(self) -> int:
        return self._clock_ns() // 1000


def _fleet(config: Config) -> tuple[bytes, StreamServer]:
    """The key that ids are digested under in the whole fleet, and the Redis it shares.

    Raises:
        ConfigError: There is none, or ids are to be shown, which never travel.
        StateError: The key cannot be read.
    """
    privacy = config.privacy
    if privacy.show_ids:
        raise ConfigError("privacy.show_ids: true; expected false: between machines only digests of ids travel")
    if privacy.key_file is None:
        raise ConfigError("privacy.key_file: not set; expected a file whose content is the same in the whole fleet")
    return read_key(privacy.key_file.parent, privacy.key_file), StreamServer(config.stream)


def _layout(config: Config, key: bytes) -> Layout:
    return Layout(VERSION, config.stream.partitions, check_value(key))
