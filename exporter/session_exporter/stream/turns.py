"""Where the order of a worker's events has to be kept over streams.

All that goes to one stream goes in one piece, and what a request does with a session is looked at in the order in which
it did it: the first time is another matter than the next one. When one of these events names the user and another does
not, they go by different streams. So what comes before is sent before.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from session_exporter.core import events as wire

# What makes a difference to a request that does it for the first time.
_ONCE: Final = frozenset((wire.Created, wire.LookedUp, wire.Observed))


def turns(events: Sequence[wire.Event], ends: Sequence[int]) -> Iterator[slice]:
    """Cut events of one segment into pieces in which each request tells of a session by one stream only.

    Args:
        events: In the order written.
        ends: Of each, the offset behind its frame; what is in one frame stays together.

    Yields:
        The pieces, in order; nearly always one.
    """
    begin = 0
    if any(not event.user and event.request and event.session for event in events):
        told: dict[tuple[str, str, str], bool] = {}
        for index, event in enumerate(events):
            if not event.request or not event.session or type(event) not in _ONCE:
                continue
            what, by_user = (event.request, event.scope, event.session), bool(event.user)
            if told.get(what, by_user) != by_user and ends[index] != ends[index - 1]:
                yield slice(begin, index)
                begin = index
                told.clear()
            told[what] = by_user
    yield slice(begin, len(events))
