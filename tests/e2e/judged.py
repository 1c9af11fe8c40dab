"""What the ledger makes of a journal, id by id: the verdicts of `session-exporter tail --judged`."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar_process import run


@dataclass
class Judged:
    """Verdicts of a scope by session id.

    Attributes:
        creates: How often each session was created.
        ends: How often each session ended.
        users: The users that creates, adoptions and attributions of each session name.
        duplicate_users: Users of rapid duplicate creates.
        counts: Of all verdicts.
    """

    creates: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    users: dict[str, set[str]] = field(default_factory=dict)
    duplicate_users: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


def verdicts(journal: Path, *more: object) -> list[dict[str, Any]]:
    """All verdicts on what is in a journal, ids as they are."""
    finished = run(
        "session_exporter", "tail", "--judged", "--json", "--show-ids", "--journal.directory", journal, *more
    )
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def events(journal: Path) -> list[dict[str, Any]]:
    """All events in a journal, ids as they are."""
    finished = run("session_exporter", "tail", "--json", "--show-ids", "--journal.directory", journal)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def judge(journal: Path, scope: str, *more: object) -> Judged:
    """The verdicts of one scope."""
    found = Judged()
    for verdict in verdicts(journal, *more):
        if verdict["scope"] != scope:
            continue
        kind, session = verdict["verdict"], verdict["session"]
        found.counts[kind] += 1
        if kind == "create":
            found.creates[session] += 1
        if kind == "end":
            found.ends[session] += 1
        if kind in {"create", "adopted", "attributed"} and verdict["user"]:
            found.users.setdefault(session, set()).add(verdict["user"])
        if kind == "rapid_duplicate_create":
            found.duplicate_users.add(verdict["user"])
    return found
