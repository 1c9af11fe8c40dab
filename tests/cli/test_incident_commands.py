"""view-metrics incidents and view-metrics explain: from the documents of a sidecar, and from the state itself."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sidecars import CHAT, Sidecar

from session_exporter.cli.following import follow
from session_exporter.cli.source import Answer
from session_exporter.cli.view_metrics import main
from session_exporter.config import PrivacySettings
from session_exporter.core import events as wire
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.errors import PeerError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar whose state holds a race of each of two users, a moment ago, and a loss of the first."""
    with closing(Sidecar(tmp_path)) as sidecar:
        sidecar.now_us = now_us()
        tell_all(sidecar)
        yield sidecar


def now_us() -> int:
    return time.time_ns() // 1000


def tell_all(sidecar: Sidecar) -> None:
    def tell(kind: type[Any], ago_s: float, session: str, user: str, **more: Any) -> None:
        event = kind(sidecar.now_us - round(ago_s * 1e6), "chat", session, user, **more)
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        sidecar.worker().append((kind.__struct_config__.tag, *fields.values()))

    for number, user in enumerate(("plain-ann", "plain-bob")):
        tell(wire.LookedUp, 70 - number, "", user, request=f"plain-r{number}", sites=("app/a.py:1:look",))
        tell(wire.Created, 69 - number, f"plain-{user}-1", user, request=f"plain-r{number}", sites=("app/a.py:2:make",))
        tell(wire.Created, 68 - number, f"plain-{user}-2", user, request=f"plain-r{number}", sites=("app/b.py:3:make",))
    tell(wire.ContextLost, 60, "", "plain-ann", expected="plain-x", actual="plain-y")
    sidecar.engine.cycle(60.0)


def told(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "plain-" not in result.stdout
    return result.stdout


# What a sidecar answers.


def test_the_list_ends_with_what_to_type_next(server: Any, documents: Any) -> None:
    server.incidents(documents.loss(), documents.duplicate())
    text = told(run("incidents", "--url", server.url, "--scope", "conversation"))
    assert text.endswith(f"\n\nThe whole story of one: view-metrics explain --url {server.url} l-77\n")


def test_that_there_are_none_of_those_chosen_is_not_taken_for_none_at_all(server: Any) -> None:
    server.incidents()
    text = told(run("incidents", "--url", server.url, "--reason", "replaced"))
    assert text == "No such incidents in the last 1d\n"


def test_every_kind_can_be_chosen(server: Any) -> None:
    server.incidents()
    for kind in INCIDENT_KINDS:
        assert run("incidents", "--url", server.url, "--kind", kind).exit_code == 0
    run("incidents", "--url", server.url, "--reason", "switched")
    assert server.asked[-1] == "/api/v1/incidents?since=1d&reason=switched&limit=20"


def test_a_story_is_asked_for_by_id_whatever_its_age(server: Any, documents: Any) -> None:
    server.incidents(documents.duplicate())
    text = told(run("explain", "d-1f3", "--url", server.url))
    assert text.startswith("d-1f3a9c0b2e: ")
    assert server.asked == ["/api/v1/incidents?limit=20&id=d-1f3"]


def test_a_story_as_json_is_the_incident_itself(server: Any, documents: Any) -> None:
    server.incidents(documents.duplicate())
    assert json.loads(told(run("explain", "d-1", "--url", server.url, "--json"))) == documents.duplicate()


def test_a_beginning_of_several_ids_names_them(server: Any, documents: Any) -> None:
    server.incidents(documents.duplicate(), documents.duplicate() | {"id": "d-1f3b"})
    result = run("explain", "d-1f3", "--url", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "Error: d-1f3 is the beginning of 2 ids:"
    assert ["d-1f3a9c0b2e" in lines[1], "d-1f3b" in lines[2]] == [True, True]


def test_an_unknown_id_cannot_be_told(server: Any) -> None:
    server.give("/api/v1/incidents", {"error": "id: 'd-0': no incident has this id"}, 404)
    result = run("explain", "d-0", "--url", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "404: id: 'd-0': no incident has this id" in result.stderr


def test_the_stories_of_a_user_come_in_the_order_of_time(server: Any, documents: Any) -> None:
    server.incidents(documents.loss(), documents.duplicate())
    text = told(run("explain", "--user", "ann smith", "--url", server.url, "--since", "2h", "--limit", "5"))
    assert text.index("d-1f3a9c0b2e: ") < text.index("-" * 70) < text.index("l-77: ")
    assert server.asked == ["/api/v1/incidents?since=2h&limit=5&user=ann+smith"]


def test_a_user_without_incidents_is_told_so(server: Any) -> None:
    server.incidents()
    assert told(run("explain", "--user", "x", "--url", server.url)) == "No incidents of this user in the last 1d\n"


def test_who_counts_a_share_of_a_fleet_names_it_where_a_user_has_no_incidents(server: Any) -> None:
    server.give("/api/v1/incidents", {"incidents": [], "next": "0-0", "share": "partitions 8-15 of 16\x1b"})
    text = told(run("explain", "--user", "x", "--url", server.url))
    assert text.endswith(r" in the last 1d; this one counts partitions 8-15 of 16\x1b: ask the others" + "\n")


@pytest.mark.parametrize("arguments", [[], ["d-1", "--user", "x"]])
def test_a_story_is_that_of_an_incident_or_of_a_user(arguments: list[str]) -> None:
    result = run("explain", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected either the ID of an incident (view-metrics incidents lists them) or --user ID" in result.stderr


def test_without_sidecar_and_state_nothing_can_be_told(dead_url: str, tmp_path: Path) -> None:
    for asked in (["explain", "d-1"], ["explain", "--user", "x"], ["incidents", "--follow"]):
        assert run(*asked, "--url", dead_url).exit_code == 2
        assert run(*asked, "--state.directory", str(tmp_path)).exit_code == 2


# What the state says by itself.


def state(sidecar: Sidecar) -> list[str]:
    return ["--state.directory", str(sidecar.state)]


def test_the_state_tells_the_same_without_a_sidecar(sidecar: Sidecar) -> None:
    sidecar.kill()
    listed = told(run("incidents", *state(sidecar)))
    identifier = listed.split()[-1]
    assert identifier.startswith("l-")
    story = told(run("explain", identifier[:6], *state(sidecar)))
    assert story.startswith(f"{identifier}: ")


def test_a_user_is_found_in_the_state_by_the_plain_id(sidecar: Sidecar) -> None:
    sidecar.kill()
    story = told(run("explain", "--user", "plain-ann", *state(sidecar)))
    assert story.count("Timeline") == 2
    assert "app/b.py:3:make" in story
    assert told(run("explain", "--user", "plain-eve", *state(sidecar))) == "No incidents of this user in the last 1d\n"


def test_a_user_is_found_in_a_state_that_shows_ids(tmp_path: Path) -> None:
    with closing(Sidecar(tmp_path, replace(CHAT, privacy=PrivacySettings(show_ids=True)))) as sidecar:
        sidecar.now_us = now_us()
        tell_all(sidecar)
        sidecar.kill()
        assert run("explain", "--user", "plain-bob", *state(sidecar)).stdout.count("Timeline") == 1


def test_without_the_key_of_the_state_no_user_is_found(sidecar: Sidecar) -> None:
    sidecar.kill()
    (sidecar.state / "key").rename(sidecar.state / "elsewhere")
    result = run("explain", "--user", "plain-ann", *state(sidecar))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{sidecar.state / 'key'}: No such file or directory; expected the key of the ids' digests" in result.stderr
    (sidecar.state / "key").write_bytes(b"x" * 32)
    assert "another key than that of" in run("explain", "--user", "plain-ann", *state(sidecar)).stderr
    config = sidecar.state / "config.yml"
    config.write_text(f"privacy: {{key_file: {sidecar.state / 'elsewhere'}}}\n")
    assert run("explain", "--user", "plain-ann", *state(sidecar), "--config.file", str(config)).exit_code == 2


def test_the_configuration_names_the_key(sidecar: Sidecar, tmp_path: Path, dead_url: str) -> None:
    sidecar.kill()
    (sidecar.state / "key").rename(tmp_path / "shared.key")
    config = tmp_path / "config.yml"
    config.write_text(
        f"state: {{directory: {sidecar.state}}}\nprivacy: {{key_file: {tmp_path / 'shared.key'}}}\n", encoding="utf-8"
    )
    result = run("explain", "--user", "plain-ann", "--config.file", str(config))
    assert result.exit_code == 0
    assert result.stdout.count("Timeline") == 2


def test_an_id_that_the_state_does_not_have_cannot_be_told(sidecar: Sidecar) -> None:
    sidecar.kill()
    result = run("explain", "d-0\x1b", *state(sidecar))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"no incident of the state in {sidecar.state} has the id d-0\\x1b," in result.stderr


# Following.


class Feed:
    """Answers in turn; ends the following, as Ctrl-C does, when there is no further one."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []
        self.shown: list[str] = []
        self.remarks: list[str] = []
        self.waits = 0

    def ask(self, after: str | None) -> Answer:
        self.asked.append(after)
        if not self.answers:
            raise KeyboardInterrupt
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found, following, *note = answer
        document = {"incidents": [{"id": each} for each in found.split()], "next": following}
        return Answer(document, "here", *note)

    def wait(self, seconds: float) -> None:
        assert seconds == 7.0
        self.waits += 1

    def follow(self, limit: int = 3) -> "Feed":
        show = lambda incident: self.shown.append(incident["id"])  # noqa: E731
        follow(self.ask, show, self.remarks.append, limit=limit, interval_s=7.0, wait=self.wait)
        return self


def test_following_shows_the_newest_the_oldest_first_and_then_what_is_new() -> None:
    feed = Feed(("b a", "s-2"), ("", "s-2"), ("c d", "s-4"), ("", "s-4")).follow()
    assert feed.shown == ["a", "b", "c", "d"]
    assert feed.asked == [None, "s-2", "s-2", "s-4", "s-4"]
    assert feed.waits == 4


def test_following_asks_on_at_once_while_answers_are_full() -> None:
    feed = Feed(("c b a", "s-3"), ("d e f", "s-6"), ("g", "s-7")).follow()
    assert feed.shown == list("abcdefg")
    assert feed.waits == 1


def test_following_outlives_errors_and_remarks_upon_each_once() -> None:
    down = PeerError("down")
    feed = Feed(
        ("a", "s-1"), down, down, ("b", "s-2", "from the state"), ("", "s-2", "from the state"), ("c", "s-3"), down
    )
    feed.follow()
    assert feed.shown == ["a", "b", "c"]
    assert feed.remarks == ["down", "from the state", "down"]


def test_following_ends_at_once_when_nobody_can_be_asked() -> None:
    with pytest.raises(PeerError, match="down"):
        Feed(PeerError("down")).follow()


def test_following_needs_to_be_told_what_is_new() -> None:
    with pytest.raises(PeerError, match="does not tell what is new"):
        Feed(("a", None)).follow()


def test_following_ends_when_nobody_reads() -> None:
    def show(_: Any) -> None:
        raise BrokenPipeError

    follow(Feed(("a", "s-1")).ask, show, print, limit=1)
