"""What the hooks of one process have to know of each other: the tables they watch, and what is not committed yet.

A hook that sees the result of a call must not take it for evidence while another one waits for the transaction that
made it: the transaction may still be rolled back.
"""

import os
from collections import Counter
from typing import Final

# Creates in transactions that are open at once; beyond it results count as sightings again.
PENDING_MAX: Final = 10_000

_watched: Counter[str] = Counter()
_pending: Counter[tuple[str, str]] = Counter()


def watch_scope(scope: str) -> None:
    """Note that a hook of this process sees every create of the scope when its transaction commits."""
    _watched[scope] += 1


def unwatch_scope(scope: str) -> None:
    """Take one `watch_scope` back."""
    _watched[scope] -= 1


def is_watched(scope: str) -> bool:
    """Whether creates of the scope are seen at their commit."""
    return _watched[scope] > 0


def begin(scope: str, session: str) -> None:
    """Note that a transaction which is still open creates this session."""
    if len(_pending) < PENDING_MAX or (scope, session) in _pending:
        _pending[scope, session] += 1


def settle(scope: str, session: str) -> None:
    """Note that such a transaction was committed or rolled back."""
    left = _pending.pop((scope, session), 0) - 1
    if left > 0:
        _pending[scope, session] = left


def is_pending(scope: str, session: str) -> bool:
    """Whether an open transaction of this process creates this session."""
    return (scope, session) in _pending


# The transactions of the parent are not the child's.
os.register_at_fork(after_in_child=_pending.clear)
