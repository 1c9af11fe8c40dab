"""Users who are counted by name, in a sidecar that is stopped, killed, and given another configuration."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import SECOND, at
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sidecars import CHAT, Sidecar

from session_exporter.config import Config, PrivacySettings
from session_exporter.core.scopes import Limits
from session_exporter.core.top_users import NOTICE_US
from session_exporter.core.totals import OTHER_USERS, UserCounts
from session_exporter.sidecar.negotiation import OPENMETRICS
from session_exporter.sidecar.rendering import render

NOTICE_S = NOTICE_US // SECOND


def showing(top: int) -> Config:
    return replace(CHAT, limits=Limits(top_users=top))


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path, showing(2))) as sidecar:
        yield sidecar


def race(sidecar: Sidecar, at_s: float, user: str) -> None:
    for number in range(2):
        sidecar.created(at_s + number, f"{user}-{at_s}-{number}", user)


def counted(sidecar: Sidecar, at_s: float) -> dict[str, int]:
    """The creates of all users, after a cycle."""
    return {label: counts.creates for label, counts in sidecar.chat(at_s).users.items()}


def called(sidecar: Sidecar, user: str) -> str:
    return sidecar.engine.names.label("u", sidecar.engine.names[user])


def two_shown(sidecar: Sidecar) -> None:
    """Let two users be counted by name."""
    for user in ("ann", "bob"):
        race(sidecar, 0, user)
    sidecar.cycle(10)
    sidecar.cycle(10 + NOTICE_S)


def test_all_others_are_there_before_the_first_event(sidecar: Sidecar) -> None:
    assert sidecar.chat(0).users == {OTHER_USERS: UserCounts(at(0))}


@pytest.mark.parametrize("ended_by", ["stop", "kill"])
def test_after_a_restart_the_same_users_are_shown_and_nothing_counts_twice(sidecar: Sidecar, ended_by: str) -> None:
    two_shown(sidecar)
    race(sidecar, 50, "ann")
    before = sidecar.chat(60).users
    race(sidecar, 61, "bob")
    race(sidecar, 62, "cy")
    getattr(sidecar, ended_by)()
    ann, bob = called(sidecar, "ann"), called(sidecar, "bob")
    after = sidecar.chat(80).users
    assert {label: counts.creates for label, counts in after.items()} == {ann: 2, bob: 2, OTHER_USERS: 6}
    assert {label: counts.born_us for label, counts in after.items()} == {
        label: counts.born_us for label, counts in before.items()
    }
    assert sidecar.chat().creates == 10


def test_a_reload_shows_fewer_or_more_users_and_those_who_stay_go_on(sidecar: Sidecar) -> None:
    two_shown(sidecar)
    race(sidecar, 50, "ann")
    race(sidecar, 50, "ann")
    assert set(counted(sidecar, 60)) == {called(sidecar, "ann"), called(sidecar, "bob"), OTHER_USERS}
    sidecar.engine.reload(showing(1))
    assert counted(sidecar, 61) == {called(sidecar, "ann"): 2, OTHER_USERS: 4}
    sidecar.engine.reload(showing(3))
    assert counted(sidecar, 70) == {called(sidecar, "ann"): 2, called(sidecar, "bob"): 0, OTHER_USERS: 4}
    sidecar.engine.reload(CHAT)
    assert counted(sidecar, 80) == {}
    sidecar.engine.reload(showing(1))
    assert sidecar.chat(90).users == {OTHER_USERS: UserCounts(at(80))}
    assert sidecar.chat().creates == 6


def test_users_who_were_shown_by_their_ids_leave_when_ids_are_no_longer_to_be_shown(sidecar: Sidecar) -> None:
    sidecar.config = replace(showing(2), privacy=PrivacySettings(show_ids=True))
    for user in ("plain-user-1", "plain-user-2"):
        race(sidecar, 0, user)
    assert set(counted(sidecar, 10)) == {"plain-user-1", "plain-user-2", OTHER_USERS}
    sidecar.stop()
    sidecar.config = showing(2)
    assert counted(sidecar, 20) == {OTHER_USERS: 4}
    sidecar.stop()
    assert b"plain-user" not in b"".join(path.read_bytes() for path in sidecar.state.iterdir())


def test_a_hostile_id_is_shown_as_it_is_and_breaks_nothing(sidecar: Sidecar) -> None:
    hostile = ['a"} 1\nsession_creates_total{x="', "\\", "other", "\u2028\x00\x7f", "é" * 128]
    sidecar.config = replace(showing(9), privacy=PrivacySettings(show_ids=True))
    for user in hostile:
        race(sidecar, 0, user)
    body, _ = render(sidecar.cycle(10), OPENMETRICS)
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    creates = [each for each in families["session_user_creates"].samples if each.name.endswith("_total")]
    assert {each.labels["user"] for each in creates if each.labels["scope"] == "chat"} == {*hostile}
    assert sum(each.value for each in creates) == 2 * len(hostile)
