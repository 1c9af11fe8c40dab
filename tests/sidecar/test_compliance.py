"""Ids through the state: checked once whatever is killed, and told by the summary as they were declared."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from ledgers import nonzero
from sidecars import Sidecar, killed_in

from session_exporter.config import Config, PrivacySettings, parse
from session_exporter.core import events as wire
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.tally import SAMPLES_PER_SHAPE
from session_exporter.sidecar.compliance import ids_of
from session_exporter.sidecar.records import ExporterState
from session_exporter.sidecar.state import State

FORMATS = "{session: uuid, thread: unified, user: '^u-[0-9]+$', legacy: {thread: '^t-'}}"
CONFIG = parse(f"scopes: {{chat: {{id_format: {FORMATS}}}}}", "f.yml")
LATER_S = 60.0


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path, CONFIG)) as sidecar:
        yield sidecar


def tell_all(sidecar: Sidecar) -> None:
    sidecar.created(0, "secret-session", "secret-user", request="r1")
    for at_s, thread in enumerate(["t-1", "secret-thread", "t-2", "secret-thread"]):
        sidecar.tell(wire.Identified, at_s, user="secret-user", thread=thread, request=f"r{at_s}")


COUNTED = {"session/invalid": 1, "user/invalid": 1, "thread/legacy": 2, "thread/invalid": 1}


def test_nothing_of_ids_leaves_the_sidecar_in_plain(sidecar: Sidecar) -> None:
    tell_all(sidecar)
    assert nonzero(sidecar.chat(LATER_S).ids_checked) == COUNTED
    told = msgspec.json.encode([sidecar.incidents(), sidecar.summary()]).decode()
    assert "secret" not in told
    assert not any(b"secret" in path.read_bytes() for path in sidecar.state.iterdir())


@pytest.mark.parametrize("step", ["commit", "_store_window", "_store_trail", "_store_meta"])
def test_a_kill_at_any_step_checks_no_id_twice(sidecar: Sidecar, step: str) -> None:
    tell_all(sidecar)
    sidecar.cycle(1)
    for at_s, thread in ((10, "secret-thread"), (11, "secret-other")):
        sidecar.tell(wire.Identified, at_s, user="secret-user", thread=thread, request="r9")
    assert killed_in(sidecar, State, step)
    expected = {**COUNTED, "thread/invalid": 2}
    assert nonzero(sidecar.chat(LATER_S).ids_checked) == expected
    window = sidecar.summary()["total"]
    assert {f"{kind}/{form}": n for kind, forms in window["ids_by_kind"].items() for form, n in forms.items() if n} == (
        expected
    )
    told = sidecar.incidents(kind="invalid_id")
    assert sorted(each["id_kind"] for each in told) == ["session", "thread", "thread", "user"]
    assert sorted(each["id"] for each in told) == sorted(alarm.id for alarm in sidecar.alarms)


def test_the_summary_tells_the_window_and_the_totals(sidecar: Sidecar) -> None:
    tell_all(sidecar)
    sidecar.cycle(LATER_S)
    found = sidecar.summary()
    assert found["problems"] == ["chat: reuse ratio 0.00% is below the target of 95%"]
    window = found["scopes"]["chat"]["window"]
    assert (window["ids_checked"], window["ids_legacy"], window["ids_invalid"]) == (5, 2, 3)
    assert window["id_compliance"] == 0.0
    totals = found["scopes"]["chat"]["totals"]
    assert nonzero(totals["ids_checked"]) == COUNTED
    assert totals["id_shapes"]["thread/legacy/text(3)"] == 2
    sidecar.now_us += 7200 * 1_000_000
    assert sidecar.summary()["total"]["id_compliance"] is None


def test_the_rules_of_a_state_are_those_that_were_configured(sidecar: Sidecar) -> None:
    sidecar.cycle(0)
    kept = msgspec.msgpack.decode(
        msgspec.msgpack.encode(ExporterState(rules=list(CONFIG.scopes.values()))), type=ExporterState
    )
    assert {rules.name: rules for rules in kept.rules} == dict(CONFIG.scopes)
    sidecar.kill()
    with closing(State(sidecar.state, CONFIG.limits)) as state:
        exporter = state.exporter()
    assert exporter is not None
    assert CONFIG.scopes["chat"] in exporter.rules


def test_when_ids_are_written_anew_evidence_of_the_same_shapes_is_kept_again(sidecar: Sidecar) -> None:
    for at_s in range(9):
        sidecar.tell(wire.Identified, at_s, thread=f"bad-{at_s}")
    shapes = sidecar.chat(LATER_S).id_shapes
    assert (shapes["thread/invalid/text(5)"], len(sidecar.alarms)) == (9, SAMPLES_PER_SHAPE + 1)
    sidecar.engine.reload(replace(CONFIG, privacy=PrivacySettings(show_ids=True)))
    assert sidecar.incidents() == []
    sidecar.tell(wire.Identified, LATER_S, thread="bad-1")
    shapes = sidecar.chat(2 * LATER_S).id_shapes
    assert shapes["thread/invalid/text(5)"] == 10
    assert [each["sample"] for each in sidecar.incidents(id="i-") if each["id_kind"] == "thread"] == ["bad-1"]


def test_a_scope_that_declares_a_format_later_checks_what_comes_then(sidecar: Sidecar) -> None:
    sidecar.config = Config(scopes={"chat": ScopeRules("chat")})
    sidecar.created(0, "secret-session", "secret-user")
    assert nonzero(sidecar.chat(LATER_S).ids_checked) == {}
    sidecar.config = CONFIG
    sidecar.engine.reload(CONFIG)
    sidecar.created(LATER_S, "another", "u-2")
    sidecar.reused(LATER_S, "secret-session", "secret-user")
    assert nonzero(sidecar.chat(2 * LATER_S).ids_checked) == {"session/invalid": 1, "user/canonical": 1}


def test_a_window_names_only_the_kinds_that_were_checked() -> None:
    found = ids_of({"ids:run/canonical": 3, "creates": 7})
    assert found["ids_by_kind"] == {"run": {"canonical": 3, "legacy": 0, "invalid": 0}}
    assert (found["id_compliance"], found["id_shapes"]) == (1.0, {})
