"""docs/metrics.md, from the table of metrics: `python -m session_exporter.sidecar.reference > docs/metrics.md`."""

import sys
from collections.abc import Iterable
from typing import Final

from session_exporter.core.scopes import (
    CAUSES,
    DB_ERRORS,
    END_REASONS,
    FAILURES,
    ID_FORMATS,
    ID_KINDS,
    LOSS_REASONS,
    OUTCOMES,
    VIOLATIONS,
)
from session_exporter.sidecar.exposition import METRICS, Metric
from session_exporter.sidecar.metric import EVERYBODY
from session_exporter.sidecar.snapshot import EVENT_KINDS, HOOK_STATES, HOOKS, LOST_REASONS, POOL_STATES
from session_exporter.sidecar.transport import FORWARD_ERRORS, SHARED_NAME, SKIPPED
from session_exporter.watch.findings import REASONS

_INTRODUCTION: Final = """\
# Metrics

Written by `python -m session_exporter.sidecar.reference`; a test holds this file equal to what the sidecar serves.

Every label set is exported from the first scrape on, at 0: the first event of a kind is an increase like any other.
Counters and histograms carry `_created` in the OpenMetrics format, and keep it over restarts: it changes only when
counting starts anew. Creates, rapid duplicate creates and context losses carry exemplars there: a trace id, and the
user as a pseudonym. By default no user is a label, and no session ever: where the race remediation document puts
`user_id` on a metric, ours counts all users of a scope together, and the users are found in the incidents. With
`per_user.top` the `session_user_*` metrics count [the worst users](howto/show-the-worst-users.md) one by one as well;
how to ask for the reuse ratio of one of them is said there. What the database tells needs a
[`watch`](howto/watch-the-database.md): `session_exporter_watch_*` and `session_unreported_creates_total` are there from
the first scrape on then, `session_db_active_rows` and `session_db_duplicate_active_users` once rows have been counted.

Who shows a metric: `journal` is a sidecar that counts what its host's or pod's workers write, `session-exporter serve`.
Where many machines are counted together, `forward` is `session-exporter forward`, which knows its host or pod, and
`stream` is `session-exporter serve --source=stream`, which knows its share of all users.
"""

_ROLES: Final = ("journal", "stream", "forward")


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


LABELS: Final[dict[str, str]] = {
    "scope": "a kind of session: the scopes of the configuration, `default` and `other`",
    "user": "with `per_user.top`: at most so many users of each scope, as they are called in incidents, and `other`",
    "cause": _words(CAUSES),
    "reason": (
        f"of a context loss: {_words(LOSS_REASONS)}; of an end: {_words(END_REASONS)}; "
        f"of a failed create: {_words(FAILURES)}; of a lost event: {_words(LOST_REASONS)}; "
        f"of a failure to forward: {_words(FORWARD_ERRORS)}; of a skipped entry: {_words(SKIPPED)}; "
        f"of a failed look at a database: {_words(REASONS)}"
    ),
    "kind": (
        f"of an event: {_words(EVENT_KINDS)}; of a violation: {_words(VIOLATIONS)}; "
        f"of an error of a database session: {_words(DB_ERRORS)}"
    ),
    "id_kind": _words(ID_KINDS),
    "format": f"of an id, as its scope declares it: {_words(ID_FORMATS)}",
    "outcome": _words(OUTCOMES),
    "hook": f"the hooks of this version ({_words(HOOKS)}), and what an application calls its own",
    "state": f"of a hook: {_words(HOOK_STATES)}; of a connection: {_words(POOL_STATES)}",
    "partition": f"the partitions that are counted here, and `{SHARED_NAME}`: the stream that everybody reads",
    "watch": "the databases that are read, as the configuration's `watch` names them; none, no series",
    "version": "of session-exporter",
    "python_version": "of the interpreter",
}


def reference() -> str:
    """Write the whole document."""
    head = [
        "| metric | type | labels | meaning | shown by | called … in the race remediation document |",
        "|---|---|---|---|---|---|",
    ]
    labels = ["", "| label | values |", "|---|---|", *(f"| `{name}` | {values} |" for name, values in LABELS.items())]
    return "\n".join([_INTRODUCTION, *head, *map(_row, METRICS), *labels, ""])


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.source.labels)
    called = f"`{metric.called}`" if metric.called else ""
    shown_by = "all" if metric.shown_by == EVERYBODY else _words(role for role in _ROLES if role in metric.shown_by)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} | {shown_by} | {called} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
