"""Up to what event time all has been read: what verdicts must not pass."""

from typing import Final

from session_exporter.stream.holds import SILENT_US, Holds
from session_exporter.stream.reading import StreamReading
from session_exporter.stream.roster import Roster

# Who is caught up has sent an event so long after it happened, at the latest. It is granted only while there is more to
# read, to those of whom nothing better is known.
ON_THE_WAY_US: Final = 5_000_000


class Horizon:
    """Puts together how far the streams have been read, and how far those have come who write to them.

    Args:
        patience_us: For how long a silent forwarder is waited for.

    Attributes:
        holds: What forwarders say in their entries, and of themselves.
        roster: What they say of themselves, as read last; it counts once all is read that was sent before.
    """

    def __init__(self, patience_us: int) -> None:
        self.holds = Holds(patience_us)
        self.roster = Roster()
        self._through_us = 0
        self._is_settled = False

    def reconnect(self) -> None:
        """Note that the streams are read from their beginning, and may not be what they were."""
        self._is_settled = False
        self.roster.forget()
        self.holds.reconnect()

    def looked(self, reading: StreamReading) -> None:
        """Note that streams were read, and that nothing of it has been returned yet."""
        self._is_settled = False
        if not reading.is_drained:
            # Who has said nothing since has not been heard of in what is still to be read either.
            since_us = min(self._through_us, reading.looked_us - SILENT_US)
            presences = self.roster.presences
            silent = {name: each for name, each in presences.items() if each.at_us < since_us}
            self.holds.see(silent)

    def reach(self, through_us: int) -> None:
        """Note that all entries of earlier have been returned."""
        if through_us != self._through_us:
            self._through_us = through_us
            self.holds.pass_time(through_us)

    def settle(self, reading: StreamReading) -> None:
        """Note that all has been returned that was there when it was looked last."""
        if not self._is_settled:
            self._is_settled = True
            self.reach(reading.looked_us)
            self.holds.conclude()
            self.holds.see(self.roster.presences, self.roster.read_us)

    def from_us(self, *, is_drained: bool) -> int | None:
        """The least event time that may still be sent or read; None when nobody is waited for.

        Args:
            is_drained: Whether all has been returned that is there.
        """
        held_us = self.holds.from_us()
        if is_drained:
            return held_us
        reached_us = max(self._through_us - ON_THE_WAY_US, 0)
        return reached_us if held_us is None else min(held_us, reached_us)
