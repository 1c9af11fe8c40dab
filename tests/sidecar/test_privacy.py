"""Ids rest in the state, and leave it, only as digests; and nobody but the owner reads even these."""

import json
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sidecars import CHAT, Sidecar

from session_exporter.config import PrivacySettings
from session_exporter.core import events as wire
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.scopes import VIOLATIONS
from session_exporter.sidecar.schema import DATABASE_NAME

LATER_S = 60.0


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


SECRETS = [
    "plain-user",
    "plain-session",
    "plain-key",
    "plain-request",
    "plain-expected",
    "plain-actual",
    "plain-second",
    "plain-asked",
    "plain-other-user",
    "plain-other-request",
    "plain-scope",
    "plain-thread",
]


def record_secrets(sidecar: Sidecar) -> None:
    user, session, key, request, expected, actual, second, asked, other_user, other_request, scope, thread = SECRETS
    who = {"key": key, "request": request}
    sidecar.created(0, session, user, **who)
    sidecar.created(1, second, user, **who)
    sidecar.tell(wire.LookedUp, 2, session, user, **who)
    sidecar.reused(2, session, user, **who)
    sidecar.tell(wire.Observed, 3, second, user, **who)
    sidecar.tell(wire.ContextLost, 3, "", user, expected=expected, actual=actual, **who)
    sidecar.tell(wire.Ended, 4, session, user, reason="deleted", **who)
    sidecar.tell(wire.Attributed, 59, second, user, **who)
    sidecar.created(59, f"{second}-3", "")
    sidecar.tell(wire.LookedUp, 0.5, "", user, asked=asked, **who)
    sidecar.tell(
        wire.Violated, 3, session, user, kind=VIOLATIONS[1], other_user=other_user, other_request=other_request
    )
    sidecar.tell(wire.CreateFailed, 0.5, session, user, reason="plain-user said so", **who)
    sidecar.tell(wire.Identified, 0.5, session, user, thread=thread, **who)
    sidecar.tell(wire.Reused, 2, session, user, scope=scope, **who)


def found_in_files(directory: Path) -> set[str]:
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    return {secret for secret in SECRETS if secret.encode() in content}


def test_no_plain_id_rests_in_any_file_of_the_state(sidecar: Sidecar) -> None:
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    assert sidecar.cycle(LATER_S).ledger.scopes["chat"].duplicate_creates == 1
    assert {path.name for path in sidecar.state.iterdir()} >= {"key", DATABASE_NAME, f"{DATABASE_NAME}-wal"}
    assert found_in_files(sidecar.state) == set()
    sidecar.cycle(3 * 3600)
    assert found_in_files(sidecar.state) == set()
    sidecar.stop()
    assert found_in_files(sidecar.state) == set()


def test_no_plain_id_is_told_with_an_incident(sidecar: Sidecar) -> None:
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    sidecar.stop()
    sidecar.created(LATER_S, "plain-session-4", SECRETS[0])
    sidecar.cycle(2 * LATER_S)
    documents = sidecar.incidents()
    assert {each["kind"] for each in documents} == {*INCIDENT_KINDS} - {"invalid_id", "duplicate_active_user"}
    assert all(each["timeline"] for each in documents)
    assert {secret for secret in SECRETS if secret in json.dumps(documents)} == set()
    assert found_in_files(sidecar.state) == set()


def test_ids_are_shown_where_the_owner_wants_them(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, privacy=PrivacySettings(show_ids=True))
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    (duplicate,) = sidecar.incidents(kind="rapid_duplicate_create")
    assert (duplicate["user"], duplicate["sessions"]) == ("plain-user", ["plain-session", "plain-second"])


def test_ids_that_are_no_longer_to_be_shown_leave_every_file_of_the_state(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, privacy=PrivacySettings(show_ids=True))
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    assert found_in_files(sidecar.state)
    sidecar.stop()
    sidecar.config = CHAT
    assert sidecar.chat(2 * LATER_S).creates == 3
    sidecar.stop()
    assert found_in_files(sidecar.state) == set()


def test_the_state_can_be_read_by_its_owner_alone(sidecar: Sidecar) -> None:
    record_secrets(sidecar)
    sidecar.cycle(LATER_S)
    assert stat.S_IMODE(sidecar.state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in sidecar.state.iterdir()} == {0o600}


def test_two_sidecars_with_one_key_file_call_a_user_the_same(tmp_path: Path) -> None:
    (tmp_path / "shared.key").write_bytes(b"k" * 32)
    shared = replace(CHAT, privacy=PrivacySettings(key_file=tmp_path / "shared.key"))
    users = []
    for name, config in [("one", shared), ("two", shared), ("three", CHAT)]:
        with closing(Sidecar(tmp_path / name, config)) as sidecar:
            sidecar.created(0, "s1")
            sidecar.created(1, "s2")
            sidecar.cycle(LATER_S)
            users.append(sidecar.incidents()[0]["user"])
    assert users[0] == users[1] != users[2]


def test_another_key_forgets_sessions_and_keeps_the_counts(sidecar: Sidecar, tmp_path: Path) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(LATER_S)
    sidecar.stop()
    (tmp_path / "new.key").write_bytes(b"n" * 32)
    sidecar.config = replace(CHAT, privacy=PrivacySettings(key_file=tmp_path / "new.key"))
    chat = sidecar.chat(2 * LATER_S)
    assert (chat.creates, chat.active_sessions) == (1, 0)
