"""What a call costs the application, beside what counting costs with other libraries."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from figures import Figure, shown
from peers import OPENTELEMETRY, PROMETHEUS, STATSD, STATSD_UNREAD
from places import in_child, journal_place
from rounds import ratio
from situations import CREATED, IN_REQUEST, IN_SPAN, OURS, WITHOUT_OPENTELEMETRY, WITHOUT_SPAN

# By situation and peer: what our cost by theirs must not exceed.
TARGETS: Final[Mapping[str, Mapping[str, float | None]]] = {
    WITHOUT_OPENTELEMETRY: {PROMETHEUS: 0.75, STATSD: 0.5, STATSD_UNREAD: 0.5},
    WITHOUT_SPAN: {PROMETHEUS: 0.75, OPENTELEMETRY: 0.35, STATSD: 0.5, STATSD_UNREAD: 0.5},
    IN_SPAN: {PROMETHEUS: 1.0, OPENTELEMETRY: 0.35, STATSD: None, STATSD_UNREAD: None},
    IN_REQUEST: {PROMETHEUS: None, OPENTELEMETRY: None, STATSD: None, STATSD_UNREAD: None},
}


def measure(*, quick: bool) -> Iterator[Figure]:
    """`reused` in four situations, each beside all peers in the same one; then `created`."""
    rounds = 3 if quick else 41
    with journal_place() as place:
        taken = in_child(Path(__file__).with_name("calls_child.py"), str(place), str(rounds))
    for situation, targets in TARGETS.items():
        yield from _beside_peers(f"tracker.reused, {situation}", taken[situation], targets)
    yield Figure("tracker.created, 20 frames deep", statistics.median(taken[CREATED][OURS]), "µs/call")


def _beside_peers(
    what: str, taken_us: Mapping[str, Sequence[float]], targets: Mapping[str, float | None]
) -> Iterator[Figure]:
    ours = taken_us[OURS]
    for peer, at_most in targets.items():
        theirs_us = shown(statistics.median(taken_us[peer]))
        yield Figure(
            what,
            statistics.median(ours),
            "µs/call",
            peer=f"{peer}: {theirs_us}",
            ratio=ratio(ours, taken_us[peer]),
            ratio_at_most=at_most,
        )
        what = "·"
