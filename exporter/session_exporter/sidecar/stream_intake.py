"""The streams that the journals of many hosts went into, as an engine's source of events."""

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from session_exporter.config import Config, StreamSettings
from session_exporter.core.fleet import FleetLedger
from session_exporter.core.ledger import Ledger
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.shares import Share
from session_exporter.core.travelling import TravelledNames
from session_exporter.errors import ConfigError, StreamUnavailable
from session_exporter.journal import Control
from session_exporter.journal.files import new_replica
from session_exporter.quantities import format_ranges
from session_exporter.sidecar.positions import Positions
from session_exporter.sidecar.progress import Counting
from session_exporter.sidecar.records import ExporterState, Identity, share_text
from session_exporter.sidecar.snapshot import STREAM_CUT, Role
from session_exporter.sidecar.state import State
from session_exporter.sidecar.transport import StreamFigures
from session_exporter.stream.entries import VERSION, Layout
from session_exporter.stream.fitness import require_fit
from session_exporter.stream.reader import StreamReader
from session_exporter.stream.server import StreamServer, stream_url
from session_exporter.stream.taking import StreamBatch

logger = logging.getLogger(__name__)

# So much may one forwarder have been behind another when both sent: of what a lost state knew, events are judged only
# when nothing older comes any more.
_SPREAD_US: Final = 30_000_000


class StreamIntake:
    """A share of all partitions, and the shared stream; as `intake.Intake`.

    Args:
        partitions: Which; None for all there are.
        clock_ns: Nanoseconds since the Unix epoch.
        environ: For the variables in the Redis' URL.
    """

    role: Role = "stream"
    is_whole = False
    place: str
    reader: StreamReader

    def __init__(
        self,
        partitions: Collection[int] | None,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._partitions = partitions
        self._clock_ns = clock_ns
        self._environ = environ
        self._server: StreamServer | None = None
        self._settings = StreamSettings()
        self.place = ""
        self._was_up = False
        self._redelivered = 0
        self._skipped: dict[str, int] = {}

    def source(self, config: Config) -> str:
        """As of `intake.Intake`: which partitions of how many."""
        share = self.share(config)
        return share_text(share.owned, share.partitions)

    def check(self, config: Config) -> None:
        """As of `intake.Intake`: between machines only digests travel, under one key."""
        if config.privacy.show_ids:
            raise ConfigError("privacy.show_ids: true; expected false: between machines only digests of ids travel")
        stream_url(config.stream, self._environ)
        if config.privacy.key_file is None:
            raise ConfigError("privacy.key_file: not set; expected a file whose content is the same in the whole fleet")
        share = self.share(config)
        strange = [number for number in share.owned if number >= share.partitions]
        if strange:
            raise ConfigError(
                f"--stream.partitions: {format_ranges(strange)}; expected numbers from 0 to {share.partitions - 1}: "
                f"stream.partitions says that there are {share.partitions}"
            )

    def share(self, config: Config) -> Share:
        """As of `intake.Intake`."""
        partitions = config.stream.partitions
        return Share(range(partitions) if self._partitions is None else self._partitions, partitions)

    def names(self, key: bytes, config: Config) -> Pseudonyms:  # noqa: ARG002 - of a journal they may be plain
        """As of `intake.Intake`."""
        return TravelledNames(key)

    def ledger(self, config: Config, rules: Mapping[str, ScopeRules], **arguments: Any) -> Ledger:
        """As of `intake.Intake`."""
        return FleetLedger(rules, share=self.share(config), **arguments)

    def open(self, state: State, config: Config, identity: Identity) -> None:
        """As of `intake.Intake`.

        Raises:
            PartitionTaken: Another consumer owns a partition, and goes on owning it.
            StreamRefused: Redis does not let us in, is of another fleet, or has something else where streams belong.
            StreamUnavailable: Redis is not there, and the state is new: who counted before is known only there.
        """
        server, settings = self._server_of(config), config.stream
        self.reader = StreamReader(
            server,
            settings,
            self.share(config),
            state.stream_positions(),
            state_id=identity.id,
            name=f"{config.replica or new_replica()}, {state.directory}",
            layout=Layout(VERSION, settings.partitions, identity.ids),
            clock_ns=self._clock_ns,
        )
        place = f"{self.source(config)} in Redis at {server.address}"
        if place != self.place:  # a Redis that is not there, or another owner, may be waited for
            logger.info("connecting", extra={"source": place})
        self.place = place
        self._was_up, self._redelivered, self._skipped = False, 0, {}
        try:
            self.reader.lock()
            require_fit(server, settings.partitions)
        except StreamUnavailable as error:
            if state.identity() is None:
                raise
            logger.warning("only what was committed is exposed: %s", error)

    def close(self) -> None:
        """As of `intake.Intake`; the partitions are given back."""
        if self._server is not None:
            self.reader.close()

    @property
    def up(self) -> bool:
        """As of `intake.Intake`."""
        return self.reader.up

    @property
    def shows_time(self) -> bool:
        """As of `intake.Intake`: Redis' clock, once it has been seen."""
        self._was_up = self._was_up or self.reader.up
        return self._was_up

    def now_us(self) -> int:
        """As of `intake.Intake`."""
        return self.reader.clock.now_us() if self._server is not None else self._clock_ns() // 1000

    def was_read_by_another(self, identity: Identity) -> bool:  # noqa: ARG002 - the reader has it
        """As of `intake.Intake`."""
        return self.reader.predecessor() is not None

    def learn(self, progress: Counting) -> None:
        """As of `intake.Intake`: what the lost state had committed, as far as the streams still hold it."""
        newest_us = 0
        for batch in self.reader.seed_batches():
            progress.take(batch)
            newest_us = max(newest_us, batch.events[-1].at_us)
            progress.judge(newest_us - _SPREAD_US)
        progress.ledger.finish(self.now_us())

    def count(self, exporter: ExporterState) -> None:
        """As of `intake.Intake`: what came again, and what was no entry."""
        reader = self.reader
        exporter.source = self.place
        exporter.redelivered += reader.redelivered - self._redelivered
        for reason, count in reader.skipped.items():
            exporter.skipped[reason] = exporter.skipped.get(reason, 0) + count - self._skipped.get(reason, 0)
        self._redelivered, self._skipped = reader.redelivered, dict(reader.skipped)

    def missing(self, batch: StreamBatch) -> Mapping[str, int]:
        """As of `intake.Intake`: what the streams were cut by."""
        return {STREAM_CUT: batch.cut}

    def positions(self) -> Positions:
        """As of `intake.Intake`."""
        return Positions(streams=self.reader.positions())

    def settle(self, positions: Positions, identity: Identity, watermark_us: int) -> None:  # noqa: ARG002 - as above
        """As of `intake.Intake`: forwarders, and whoever comes after us, are told."""
        self.reader.release(positions.streams)

    def controls(self) -> list[Control]:
        """As of `intake.Intake`: none; the forwarders show them."""
        return []

    def journal_bytes(self) -> int:
        """As of `intake.Intake`."""
        return 0

    def stream_figures(self, exporter: ExporterState) -> StreamFigures:
        """As of `intake.Intake`."""
        reader = self.reader
        return StreamFigures(
            up=reader.up,
            lag_s=reader.lags(),
            partitions=self._settings.partitions,
            redelivered_events=exporter.redelivered,
            entries_skipped=dict(exporter.skipped),
            forwarders=reader.forwarders(),
            held_s=reader.held_s(),
            clock_skew_s=reader.clock.skew_us / 1e6,
        )

    def _server_of(self, config: Config) -> StreamServer:
        """The server; a connection to another one is closed, its partitions given back."""
        if self._server is None or self._settings != config.stream:
            server = StreamServer(config.stream, environ=self._environ)
            self.close()
            self._server, self._settings = server, config.stream
        return self._server
