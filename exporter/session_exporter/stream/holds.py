"""For whom verdicts wait: forwarders that may still send events of a time that others have left behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from session_exporter.stream.entries import Presence

# Who has said nothing for so long is silent; all say something about once a second.
SILENT_US: Final = 3_000_000
# So much of what it had acknowledged may a Redis forget that was killed.
FORGOTTEN_US: Final = 2_000_000
# Who says that a round was all had looked a moment before it was sent; nothing older than this before that comes later.
CAUGHT_UP_US: Final = 1_000_000
# Who has announced itself by then is in a roster that was read so long after its first entry was sent.
ANNOUNCED_US: Final = 1_000_000
# A clock that nobody looked at for longer, as while Redis was away, has stood still meanwhile.
STEP_US: Final = 1_000_000
# Many more than a consumer can serve; whoever is beyond holds nothing.
FORWARDERS_MAX: Final = 100_000


class _Round(NamedTuple):
    """What entries say that were sent together.

    Attributes:
        sent_us: When that was.
        behind_us: From what event time there was more to send; 0 for none.
        last_us: The newest event of those that were taken in.
    """

    sent_us: int
    behind_us: int
    last_us: int

    @property
    def from_us(self) -> int:
        """From what event time there may be more to come."""
        return self.behind_us or max(min(self.last_us, self.sent_us), self.sent_us - CAUGHT_UP_US)


@dataclass(slots=True)
class _Sender:
    """What is known of a forwarder.

    Attributes:
        from_us: The event time that it may still send from.
        advanced_us: When that advanced last; time with Redis.
        present: Whether it has announced itself.
        waited_for: Whether verdicts wait for it.
        heard_us: When its newest entry was sent; 0 before the first.
        round: What its newest round says, which may not have been taken in entirely yet.
        forgotten: Whether what it said before may have been forgotten by Redis, so that it may go back.
    """

    from_us: int
    advanced_us: int
    present: bool
    waited_for: bool = True
    heard_us: int = 0
    round: _Round | None = None
    forgotten: bool = False


class Holds:
    """What forwarders say of how far they have come.

    They say so in every entry, which goes for the round of entries that were sent together; and in their presence,
    also when they have nothing to send. Who says nothing new for a while is waited for no longer; time without Redis is
    not counted.

    Args:
        patience_us: For how long a silent forwarder is waited for.
    """

    def __init__(self, patience_us: int) -> None:
        self._patience_us = patience_us
        self._now_us = 0
        self._connected_us = 0
        self._senders: dict[str, _Sender] = {}
        # By event time; with what was so when it was put in, which no longer counts.
        self._order: list[tuple[int, str]] = []

    def pass_time(self, now_us: int) -> None:
        """It is so late by Redis' clock, or of what is being read; time that goes back stands still."""
        if now_us > self._now_us:
            self._connected_us += min(now_us - self._now_us, STEP_US)
            self._now_us = now_us

    def hear(self, forwarder: str, events_us: tuple[int, int], sent_us: int, behind_us: int) -> None:
        """Take in what an entry says.

        Args:
            forwarder: Who has sent it.
            events_us: The times of its first and its last event.
            sent_us: When its round was sent.
            behind_us: The event time from which there was more to send after this round; 0 for none.
        """
        first_us, last_us = events_us
        sender = self._senders.get(forwarder)
        if sender is None:
            if len(self._senders) >= FORWARDERS_MAX:
                return
            # Others in its round may be of an earlier time, when the workers of a backlog take turns.
            sender = self._senders[forwarder] = _Sender(0, self._connected_us, present=False)
            heappush(self._order, (0, forwarder))
        elif sender.round is not None and sender.round.sent_us != sent_us:
            self._conclude(forwarder, sender, sender.round)
        elif sender.round is not None:
            last_us = max(last_us, sender.round.last_us)
        if not sender.waited_for:
            # Of a round that is not taken in entirely yet nothing is known but how it begins.
            sender.from_us, sender.advanced_us, sender.waited_for = first_us, self._connected_us, True
            heappush(self._order, (first_us, forwarder))
        sender.round, sender.heard_us = _Round(sent_us, behind_us, last_us), sent_us

    def conclude(self) -> None:
        """Note that all rounds that have been heard of were taken in entirely."""
        for forwarder, sender in list(self._senders.items()):
            if sender.round is not None:
                self._conclude(forwarder, sender, sender.round)
                sender.round = None
                if not sender.present and not sender.waited_for:
                    del self._senders[forwarder]

    def _conclude(self, forwarder: str, sender: _Sender, heard: _Round) -> None:
        if heard.behind_us or sender.present:
            self._advance(forwarder, sender, heard.from_us)
        else:
            sender.waited_for = False

    def see(self, presences: Mapping[str, Presence], read_us: int | None = None) -> None:
        """Take in what forwarders say of themselves, when everything that was in the streams before is taken in.

        Args:
            presences: By forwarder.
            read_us: When they were read, if these are all: who is not among them has taken leave.
        """
        for forwarder, presence in presences.items():
            sender = self._senders.get(forwarder)
            if sender is not None:
                sender.present = True
                self._advance(forwarder, sender, presence.complete_us)
            elif len(self._senders) < FORWARDERS_MAX:
                self._senders[forwarder] = _Sender(presence.complete_us, self._connected_us, present=True)
                heappush(self._order, (presence.complete_us, forwarder))
        if read_us is not None:
            for forwarder, sender in list(self._senders.items()):
                # What Redis has forgotten is no leave-taking.
                is_announced = sender.present or sender.heard_us < read_us - ANNOUNCED_US
                if forwarder not in presences and is_announced and not sender.forgotten:
                    del self._senders[forwarder]

    def _advance(self, forwarder: str, sender: _Sender, from_us: int) -> None:
        if from_us > sender.from_us or (sender.forgotten and from_us != sender.from_us):
            sender.from_us, sender.advanced_us = from_us, self._connected_us
            sender.waited_for, sender.forgotten = True, False
            heappush(self._order, (from_us, forwarder))

    def reconnect(self) -> None:
        """Note that Redis was away: it may have forgotten the last that it was told, and all are waited for anew."""
        for sender in self._senders.values():
            sender.from_us = max(sender.from_us - FORGOTTEN_US, 0)
            sender.advanced_us, sender.round, sender.forgotten = self._connected_us, None, True
        self._put_in_order()

    def from_us(self) -> int | None:
        """The least event time that anybody who is waited for may still send; None when nobody is."""
        sender = self._first()
        return None if sender is None else sender.from_us

    def held_us(self) -> int:
        """For how long verdicts have been waiting for a forwarder that is silent; 0 when they are not."""
        sender = self._first()
        waited_us = self._connected_us - sender.advanced_us if sender is not None else 0
        return waited_us if waited_us > SILENT_US else 0

    def _first(self) -> _Sender | None:
        """Who is furthest behind of those that are waited for."""
        if len(self._order) > 2 * len(self._senders) + 64:
            self._put_in_order()
        while self._order:
            from_us, forwarder = self._order[0]
            sender = self._senders.get(forwarder)
            if sender is not None and sender.waited_for and sender.from_us == from_us:
                if self._connected_us - sender.advanced_us <= self._patience_us:
                    return sender
                self._give_up(forwarder, sender)
            heappop(self._order)
        return None

    def _give_up(self, forwarder: str, sender: _Sender) -> None:
        sender.waited_for = False
        if not sender.present or sender.forgotten:
            del self._senders[forwarder]

    def _put_in_order(self) -> None:
        self._order = [(each.from_us, name) for name, each in self._senders.items() if each.waited_for]
        heapify(self._order)
