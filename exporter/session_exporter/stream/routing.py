"""Which partitions an event concerns: that of its user, that of its session, or all of them."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import DEFAULT_SCOPE, OTHER_SCOPE, ScopeRules
from session_exporter.core.shares import partition_of
from session_exporter.stream.checking import Checks
from session_exporter.stream.claiming import CLAIMING, Claim, SentClaims, claim_of
from session_exporter.stream.keys import SHARED
from session_exporter.stream.rewriting import Rewriter, digest_in

# What says something of a session by its id alone; when it names no user, everybody has to hear of it.
SHARED_KINDS: Final = frozenset(
    (wire.Created, wire.Reused, wire.LookedUp, wire.Observed, wire.Ended, wire.Unmet),
)
_NOTHING: Final[Mapping[int, int]] = {}
_NO_KINDS: Final[frozenset[type]] = frozenset()


class Routed(NamedTuple):
    """What goes to one stream, in order, ready for an entry.

    Attributes:
        ends: Of each event, the offset behind the frame that it comes from.
        events: As they travel.
    """

    ends: list[int]
    events: list[wire.FleetEvent]


class Router:
    """Makes events of workers into what travels, and says where to; one thread at a time.

    What it remembers only saves repetition. But a claim, or the verdict on an id, that Redis has forgotten must be told
    again: whoever goes back to what the consumers have committed calls `forget` before.

    Args:
        names: Digests of ids, under the key that forwarders and consumers share.
        rules: How each declared scope is judged; `default` and `other` are added when missing.
        partitions: How many there are.
        shift_us: As of `Rewriter`.
    """

    def __init__(
        self, names: Pseudonyms, rules: Mapping[str, ScopeRules], partitions: int, *, shift_us: int = 0
    ) -> None:
        self.rewriter = Rewriter(names, shift_us=shift_us)
        self._names = names
        self._partitions = partitions
        self._claims, self._checks = SentClaims(), Checks()
        self.declare(rules)

    def declare(self, rules: Mapping[str, ScopeRules]) -> None:
        """Judge by these rules from now on."""
        self._rules = {DEFAULT_SCOPE: ScopeRules(DEFAULT_SCOPE), OTHER_SCOPE: ScopeRules(OTHER_SCOPE), **rules}
        self._other = self._rules[OTHER_SCOPE]
        # Of a request that only reuses sessions that are known, the id is not looked at.
        checks_requests = any("request" in each.id_formats for each in self._rules.values())
        self._hot: frozenset[type] = frozenset((wire.Reused,) if checks_requests else (wire.Reused, wire.LookedUp))
        self.forget()

    def forget(self) -> None:
        """Tell again whose sessions are and what ids look like, of all that is routed from now on."""
        self._claims.clear()
        self._checks.clear()

    def route(
        self, events: Sequence[wire.Event], ends: Sequence[int], writer: wire.Writer, sent: Mapping[int, int] = _NOTHING
    ) -> dict[int, Routed]:
        """Route events of one segment, in the order written.

        Args:
            events: As the worker wrote them.
            ends: Of each, the offset behind its frame in the segment.
            writer: Who wrote them.
            sent: By stream, the offset up to which it has this segment already: nothing from there goes to it.

        Returns:
            By partition, or `keys.SHARED`, what goes there; streams to which nothing goes are left out. Of one event,
            all that goes to one stream stands together.
        """
        out = _Out(writer, sent)
        is_again = bool(ends) and ends[0] <= max(sent.values(), default=0)
        try:
            self._route_all(events, ends, _NO_KINDS if is_again else self._hot, out)
        except BaseException:
            # What it has remembered to have told is lost.
            self.forget()
            raise
        return dict(out)

    def _route_all(self, events: Sequence[wire.Event], ends: Sequence[int], hot: frozenset[type], out: "_Out") -> None:
        """Nearly every event of a busy application is the reuse or the lookup of a session whose user is known.

        So that way is written out here, with what it needs at hand.
        """
        known, texts, shift_us = self._claims.get, self.rewriter.texts, self.rewriter.shift_us
        for event, end in zip(events, ends, strict=True):
            if type(event) in hot and (claim := known((event.scope, event.session, event.user))) is not None:
                at_us = event.at_us + shift_us
                if claim.begin_us <= at_us < claim.renew_us:
                    to = out[claim.home]
                    to.ends.append(end)
                    to.events.append(_met(event, at_us, claim, texts))
                    continue
            self._route(event, end, out)

    def _route(self, event: wire.Event, end: int, out: "_Out") -> None:
        told = self.rewriter.rewrite(event)
        rules, place = self._judged(event.scope)
        if rules.id_formats:
            self._check(event, told, end, out)
        if isinstance(told, wire.Ended) and told.user and told.session and not self._have_met(event):
            # Anybody may end a session, whosever it is: an end is its user's alone when both were seen together.
            # That may have been forgotten when it is sent again, so it is counted with its user all the same.
            told = structs.replace(told, halved=True)
            out.put(SHARED, end, structs.replace(told, user="", key=""))
        if told.user:
            home = self._partition(told.user)
            out.put(home, end, told)
            if told.session and type(told) in CLAIMING:
                self._claim(event, told, home, end, out)
            elif told.session and isinstance(told, wire.Unmet):
                out.put(self._partition(told.session, place), end, structs.replace(told, kept=True))
        elif told.session and type(told) in SHARED_KINDS:
            out.put(SHARED, end, told)
        else:
            out.put(self._partition_of_request(told, out.writer), end, told)

    def _have_met(self, event: wire.Event) -> bool:
        return (event.scope, event.session, event.user) in self._claims

    def _claim(self, event: wire.Event, told: wire.Event, home: int, end: int, out: "_Out") -> None:
        """Tell the keeper of a session of its user, unless it was told lately."""
        pair = (event.scope, event.session, event.user)
        if self._claims.is_news(pair, told.at_us):
            rules, place = self._judged(event.scope)
            if out.put(self._partition(told.session, place), end, claim_of(told)):
                self._claims.note(pair, told, home, rules.idle_timeout_us // 2)

    def _check(self, event: wire.Event, told: wire.Event, end: int, out: "_Out") -> None:
        rules, place = self._judged(event.scope)
        for known, check in self._checks.of(event, told, rules.id_formats):
            partition = self._partition(check.id, place if check.id_kind == "session" else "")
            if out.put(partition, end, check):
                self._checks.keep(known, None)

    def _judged(self, scope: str) -> tuple[ScopeRules, str]:
        """The rules for a scope, and what keeps undeclared ones apart, which are judged as `other`."""
        rules = self._rules.get(scope)
        return (self._other, f"{scope}/") if rules is None else (rules, "")

    def _partition(self, text: str, place: str = "") -> int:
        """The partition of what travels as `text`; in an undeclared scope, consumers digest it with its place."""
        digest = self._names.digest(place + text) if place else digest_in(text)
        return partition_of(digest, self._partitions)

    def _partition_of_request(self, told: wire.Event, writer: wire.Writer) -> int:
        if told.request:
            return self._partition(told.request)
        stands_for = f"{told.trace.hex()}@{writer.id}" if told.trace else writer.id
        return partition_of(self._names.digest(stands_for), self._partitions)


class _Out(dict[int, Routed]):
    """What goes to each stream."""

    def __init__(self, writer: wire.Writer, sent: Mapping[int, int]) -> None:
        super().__init__()
        self.writer = writer
        self._sent = sent

    def __missing__(self, stream: int) -> Routed:
        routed = self[stream] = Routed([], [])
        return routed

    def put(self, stream: int, end: int, event: wire.FleetEvent) -> bool:
        """Whether it goes there, because that stream does not have it already."""
        if end <= self._sent.get(stream, 0):
            return False
        to = self[stream]
        to.ends.append(end)
        to.events.append(event)
        return True


def _met(event: wire.Event, at_us: int, claim: Claim, texts: Mapping[str, str]) -> wire.Event:
    """A reuse or a lookup as it travels, of a session and a user that are known."""
    key = event.key and texts[event.key]
    request = event.request and texts[event.request]
    base = (at_us, event.scope, claim.session, claim.user, key, request, event.trace)
    if isinstance(event, wire.LookedUp):
        asked = event.asked and texts[event.asked]
        return wire.LookedUp(*base, event.sites, event.duration_us, event.again, asked)
    return wire.Reused(*base)
