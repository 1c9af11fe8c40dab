"""Users with several active sessions become incidents: each once, for as long as it stays so."""

from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.watch.findings import Census, Twin
from session_exporter.watch.twins import KNOWN_MAX, duplicate_user_incidents

NAMES = Pseudonyms(b"k" * 32, show_ids=True)
USERS = st.sets(st.sampled_from(["ann", "bob", "cyd", "dan"]))


def twin(user: str, key: str = "") -> Twin:
    return Twin(user, key, (f"{user}-2", f"{user}-1"), (2_000_000, 1_000_000), 2)


def told(known: list[bytes], *twins: Twin, users: int | None = None, at_us: int = 5) -> tuple[list[str], list[bytes]]:
    census = Census(at_us, 9, len(twins) if users is None else users, twins)
    incidents, known = duplicate_user_incidents(census, "chat", NAMES, known)
    return [each.detail["user"] for each in incidents], known


def test_an_incident_tells_the_sessions_and_when_they_were_created() -> None:
    (incident,), _ = duplicate_user_incidents(Census(5, 9, 1, [twin("ann", "phone")]), "chat", NAMES, [])
    assert (incident.kind, incident.at_us, incident.scope) == ("duplicate_active_user", 5, "chat")
    assert incident.detail == {
        "user": "ann",
        "key": "phone",
        "active_rows": 2,
        "gap_ms": 1000.0,
        "sessions": ["ann-1", "ann-2"],
        "creates": [{"at_us": 1_000_000, "session": "ann-1"}, {"at_us": 2_000_000, "session": "ann-2"}],
    }
    assert (incident.users, incident.sessions) == ((b"ann",), (b"ann-2", b"ann-1"))


@given(st.lists(USERS))
def test_each_is_told_when_it_begins_and_again_only_after_it_was_over(looks: list[set[str]]) -> None:
    known: list[bytes] = []
    before: set[str] = set()
    for now in looks:
        users, known = told(known, *map(twin, sorted(now)))
        assert set(users) == now - before
        assert len(users) == len(set(users))
        before = now


def test_one_user_on_two_devices_is_two() -> None:
    assert told([], twin("ann", "phone"), twin("ann", "desk"))[0] == ["ann", "ann"]


def test_who_is_not_listed_among_too_many_is_not_taken_for_over() -> None:
    _, known = told([], twin("ann"))
    users, known = told(known, twin("bob"), users=30)
    assert (users, known) == (["bob"], [b"ann", b"bob"])
    assert told(known, twin("ann"), users=30)[0] == []


def test_what_was_not_counted_changes_nothing() -> None:
    assert duplicate_user_incidents(Census(5, 9, None), "chat", NAMES, [b"ann"]) == ([], [b"ann"])


def test_only_so_many_are_known() -> None:
    known = [str(number).encode() for number in range(KNOWN_MAX)]
    _, known = told(known, twin("ann"), users=5000)
    assert (len(known), known[-1], known[0]) == (KNOWN_MAX, b"ann", b"1")
