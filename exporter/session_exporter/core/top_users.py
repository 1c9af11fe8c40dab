"""The users of one scope who are counted by name: the few with the most trouble.

Every create, reuse, rapid duplicate and context loss goes to exactly one series: that of its user, or `other`. Who has
a series is decided every few seconds of event time, by what was weighed so far: a duplicate and a loss weigh much more
than a create that follows another one soon; the first create of a user, and reuses, weigh nothing. Weight fades.

A rate over a series misses what the series had counted before it was scraped first, and what it counted after it was
scraped last. So a series is *announced* at 0 for a while, then it counts, and before it ends it stands still for a
while; what its user does before and after is counted in `other`. Whoever scrapes at least that often finds that the
rates over all users of a scope add up to that of the scope.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from session_exporter.core.heavy_hitters import HeavyHitters, Weights
from session_exporter.core.minutes import MINUTE_US
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import Session
from session_exporter.core.totals import OTHER_USERS, ScopeTotals, UserCounts

CREATE_WEIGHT: Final = 1.0
DUPLICATE_WEIGHT: Final = 10.0
LOSS_WEIGHT: Final = 10.0
# After a day, of a hundred duplicates less is left than one create weighs.
HALF_LIFE_US: Final = 3_600_000_000

FADE_EVERY_US: Final = 1_000_000
CHOOSE_EVERY_US: Final = 5_000_000
# Twice the usual interval of scrapes.
NOTICE_US: Final = 30_000_000
# One is shown from one weight on, and until another one; who takes the place of somebody weighs so much more.
SHOWN_FROM: Final = 0.5
SHOWN_UNTIL: Final = 0.0625
TAKES_OVER_AT: Final = 1.5


class Shown(msgspec.Struct, array_like=True):
    """A user who has a series.

    Attributes:
        user: Digest.
        since_us: When the series was announced.
        left_us: When it stopped counting; 0 while it has not.
    """

    user: bytes
    since_us: int
    left_us: int = 0


class Ranking(msgspec.Struct, array_like=True):
    """What a commit stores of the users of a scope, besides their counts; small enough to be stored whole.

    Attributes:
        weights: Of the heaviest users.
        shown: Who has a series.
        chosen_us: When that was decided last.
        faded_us: Until when weight has faded.
        minute: The minute in which somebody had to leave last, since the epoch.
        left: How many had to leave in it.
    """

    weights: Weights = msgspec.field(default_factory=Weights)
    shown: list[Shown] = []
    chosen_us: int = 0
    faded_us: int = 0
    minute: int = 0
    left: int = 0


class TopUsers:
    """Counts by user.

    Args:
        top: How many users are shown at once, from 1 to `scopes.TOP_USERS_MAX`.
        totals: Of the scope; the counts by user are there.
        names: For the pseudonyms that are shown.
        sessions: Of the scope, for events that do not name their user.
        born_us: When `other` began to count, when it does so only now.
    """

    def __init__(
        self,
        top: int,
        totals: ScopeTotals,
        names: Pseudonyms,
        sessions: Mapping[bytes, Session],
        *,
        born_us: int,
    ) -> None:
        self._top = top
        self._names = names
        self._sessions = sessions
        # Ten times what is shown, so that those who are come out in the right order.
        self._places = 10 * top + 100
        self._weights = HeavyHitters(self._places)
        self._shown: dict[bytes, Shown] = {}
        self._counting: dict[bytes, UserCounts] = {}
        self._chosen_us = self._faded_us = self._minute = self._left = 0
        self._go_on(totals, born_us)

    def created(self, user: bytes) -> None:
        """Count a create."""
        self._of(user).creates += 1

    def repeated(self, user: bytes) -> None:
        """Weigh a create, which was counted, that came soon after another one of its user."""
        self._weigh(user, CREATE_WEIGHT)

    def reused(self, user: bytes, session: bytes) -> None:
        """Count a reuse."""
        self._counting.get(user or self._user_of(session), self._other).reuses += 1

    def duplicated(self, user: bytes) -> None:
        """Count a rapid duplicate create."""
        self._of(user).duplicates += 1
        self._weigh(user, DUPLICATE_WEIGHT)

    def lost(self, user: bytes, session: bytes) -> None:
        """Count the loss of a session."""
        user = user or self._user_of(session)
        self._of(user).losses += 1
        self._weigh(user, LOSS_WEIGHT)

    def advance(self, now_us: int) -> None:
        """Let weight fade until a time; what is weighed from now on is of that time, or later."""
        passed_us = now_us - self._faded_us
        if passed_us > FADE_EVERY_US:
            if self._faded_us:
                self._weights.fade(passed_us / HALF_LIFE_US)
            self._faded_us = now_us

    def choose(self, now_us: int) -> bool:
        """Decide who is shown, when that is due.

        Args:
            now_us: The watermark.

        Returns:
            Whether other series are shown than before.
        """
        if now_us <= 0 or 0 <= now_us - self._chosen_us < CHOOSE_EVERY_US:
            return False
        if now_us < self._chosen_us:  # the clock had been ahead
            self._faded_us = min(self._faded_us, now_us)
            for each in self._shown.values():
                each.since_us, each.left_us = min(each.since_us, now_us), min(each.left_us, now_us)
        self._chosen_us = now_us
        self.advance(now_us)
        ended = self._end()
        self._count()
        begun = self._announce()
        self._dismiss()
        return ended or begun

    def ranking(self) -> Ranking:
        """What to store; out of date with the next event."""
        shown = list(self._shown.values())
        return Ranking(self._weights.weights(), shown, self._chosen_us, self._faded_us, self._minute, self._left)

    def restore(self, ranking: Ranking) -> None:
        """Go on from what was stored together with the totals; perhaps for another number of users."""
        self._weights = HeavyHitters(self._places, ranking.weights)
        self._chosen_us, self._faded_us = ranking.chosen_us, ranking.faded_us
        self._minute, self._left = ranking.minute, ranking.left
        known = [each for each in ranking.shown if self._label(each.user) in self._series]
        known.sort(key=lambda each: self._weights.at_least(each.user), reverse=True)
        self._shown = {each.user: each for each in known[: self._top]}
        kept = {OTHER_USERS, *map(self._label, self._shown)}
        for label in [label for label in self._series if label not in kept]:
            del self._series[label]
        self._count()

    def start_anew(self, totals: ScopeTotals) -> None:
        """Go on with other totals and nobody shown; what was weighed is still known."""
        self._shown, self._counting = {}, {}
        self._go_on(totals, totals.born_us)

    def _go_on(self, totals: ScopeTotals, born_us: int) -> None:
        self._series = totals.users
        self._other = self._series.setdefault(OTHER_USERS, UserCounts(born_us))

    def _of(self, user: bytes) -> UserCounts:
        return self._counting.get(user, self._other)

    def _user_of(self, session: bytes) -> bytes:
        known = self._sessions.get(session)
        return b"" if known is None else known.user

    def _weigh(self, user: bytes, weight: float) -> None:
        if user:
            self._weights.add(user, weight)

    def _label(self, user: bytes) -> str:
        return self._names.label("u", user)

    def _end(self) -> bool:
        """End the series that have stood still for long enough."""
        over = [each.user for each in self._shown.values() if each.left_us and self._is_known_since(each.left_us)]
        for user in over:
            del self._shown[user], self._series[self._label(user)]
        return bool(over)

    def _count(self) -> None:
        """Let the series count that were announced for long enough."""
        for user, each in self._shown.items():
            if not each.left_us and user not in self._counting and self._is_known_since(each.since_us):
                self._counting[user] = self._series[self._label(user)]

    def _announce(self) -> bool:
        """Show the heaviest users as far as there is room."""
        begun = self._candidates()[: self._top - len(self._shown)]
        for user in begun:
            self._shown[user] = Shown(user, self._chosen_us)
            self._series[self._label(user)] = UserCounts(self._chosen_us)
        return bool(begun)

    def _dismiss(self) -> None:
        """Let those leave who have faded, or are outweighed by somebody who is not shown; a few in each minute."""
        minute = self._chosen_us // MINUTE_US
        if minute != self._minute:
            self._minute, self._left = minute, 0
        at_least = self._weights.at_least
        # The heaviest of them have the places already that are being left.
        candidates = self._candidates()[sum(each.left_us > 0 for each in self._shown.values()) :]
        challengers = [at_least(user) for user in candidates]
        may_leave = max(self._top // 10 + 1 - self._left, 0)
        for place, user in enumerate(sorted(self._counting, key=at_least)[:may_leave]):
            challenger = challengers[place] if place < len(challengers) else 0.0
            weight = at_least(user)
            if weight >= SHOWN_UNTIL and challenger < weight * TAKES_OVER_AT:
                break
            del self._counting[user]
            self._shown[user].left_us = self._chosen_us
            self._left += 1

    def _candidates(self) -> list[bytes]:
        """Who might be shown, the heaviest first; of those who share a label, which few do, only one."""
        found: dict[str, bytes] = {}
        for user in self._weights.heaviest(2 * self._top):
            if self._weights.at_least(user) < SHOWN_FROM:
                break
            if user not in self._shown and (label := self._label(user)) not in self._series:
                found.setdefault(label, user)
        return list(found.values())

    def _is_known_since(self, at_us: int) -> bool:
        return self._chosen_us - at_us >= NOTICE_US
