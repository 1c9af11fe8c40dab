"""What a process knows of the streams that it sends to, or counts from, at one instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from session_exporter.core.shares import PARTITIONS_MAX
from session_exporter.stream.keys import SHARED

# Why sending failed: Redis is not there; lets us not in, or is of another fleet; its memory is full; anything else.
FORWARD_ERRORS: Final = ("connection", "refused", "out_of_memory", "other")
# Why an entry of a stream could not be used.
SKIPPED: Final = ("malformed", "newer_version")
SHARED_NAME: Final = "shared"


@dataclass(frozen=True, slots=True)
class ForwardFigures:
    """Of a forwarder; whoever hands it over no longer changes what is inside.

    Attributes:
        up: Whether Redis is connected, and takes what is sent.
        forwarded_events: Events that Redis has acknowledged, each once.
        resent_events: Events that were sent again, because they were not committed when a connection was lost.
        errors: Failed attempts to connect or to send, by a reason of `FORWARD_ERRORS`; what is missing is 0.
        uncommitted_bytes: Of the journal, in segments that are kept until all consumers have committed them.
        released_early_segments: Segments given up before they were committed, for want of space.
        clock_skew_s: Redis' clock minus this host's, seconds; 0 before it was measured.
    """

    up: bool = False
    forwarded_events: int = 0
    resent_events: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    uncommitted_bytes: int = 0
    released_early_segments: int = 0
    clock_skew_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """Of a consumer; whoever hands it over no longer changes what is inside.

    Attributes:
        up: Whether Redis is connected and all partitions are ours.
        lag_s: Age of the oldest entry that is not committed yet, by partition and for `keys.SHARED`, seconds; 0 when
            there is none. Every stream that is read is there from the first figures on.
        partitions: How many there are, whoever reads them.
        redelivered_events: Events that arrived again, and were dropped.
        entries_skipped: Entries that could not be used, by a reason of `SKIPPED`; what is missing is 0.
        forwarders: Who is known to send.
        held_s: For how long verdicts have been waiting for forwarders that are silent, seconds; 0 when for none.
        clock_skew_s: Redis' clock minus this host's, seconds; 0 before it was measured.
    """

    up: bool = False
    lag_s: Mapping[int, float] = field(default_factory=dict)
    partitions: int = 0
    redelivered_events: int = 0
    entries_skipped: Mapping[str, int] = field(default_factory=dict)
    forwarders: int = 0
    held_s: float = 0.0
    clock_skew_s: float = 0.0

    def lags(self) -> list[tuple[str, float]]:
        """The lags by name, the partitions in their order and the shared stream last."""
        ordered = sorted(self.lag_s.items(), key=lambda lag: lag[0] if lag[0] != SHARED else PARTITIONS_MAX)
        return [(SHARED_NAME if stream == SHARED else str(stream), lag_s) for stream, lag_s in ordered]
