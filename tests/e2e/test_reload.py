"""Reloading: a wrong file leaves the old configuration in force and says so, a right one counts from then on."""

import signal

import pytest
from sidecar_process import Sidecar

from session_exporter.core.scopes import CAUSES, END_REASONS
from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.integration

SUCCESSFUL = "session_exporter_config_last_reload_successful"
SUCCEEDED_AT = "session_exporter_config_last_reload_success_timestamp_seconds"
ONE_SCOPE = "lateness: 100ms\nscopes:\n  chat: {duplicate_window: 5s}\n"
TWO_SCOPES = f"{ONE_SCOPE}  thread: {{}}\n"
WRONG = {
    "an unknown key": ("scopes:\n  chat: {}\n  thread: {colour: green}\n", ":3: scopes.thread.colour: unknown key"),
    "a wrong type": ("lateness: soon\nscopes: {thread: {}}\n", ":1: lateness: value soon: expected"),
    "a duplicate scope": ("scopes:\n  thread: {}\n  thread: {}\n", ":3: scopes.thread: "),
}


@pytest.fixture
def sidecar(tmp_path):
    with Sidecar(tmp_path, ONE_SCOPE, arguments=["--web.enable-lifecycle"]) as running:
        running.start().scrape()
        yield running


def post(sidecar):
    return sidecar.get("/-/reload", method="POST")


def hang_up(sidecar):
    sidecar.signal(signal.SIGHUP)
    return None, ""


def scopes(scrape):
    return {dict(labels)["scope"] for labels in scrape.of("session_creates_total")}


@pytest.mark.parametrize("reload", [post, hang_up])
@pytest.mark.parametrize(("config", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_leaves_the_old_one_in_force_until_it_is_mended(sidecar, reload, config, problem):
    before = sidecar.scrape()
    assert before.value(SUCCESSFUL) == 1
    sidecar.config_file.write_text(config, encoding="utf-8")
    status, body = reload(sidecar)
    assert status in {None, 500}
    assert not body or f"{sidecar.config_file}{problem}" in body
    failed = sidecar.scrape_until(lambda scrape: scrape.value(SUCCESSFUL) == 0, "the reload has failed")
    assert f"{sidecar.config_file}{problem}" in sidecar.log
    assert "Traceback" not in sidecar.log
    assert scopes(failed) == {"chat", "default", "other"}
    assert failed.value(SUCCEEDED_AT) == before.value(SUCCEEDED_AT)
    assert failed.regressions(before) == []
    sidecar.config_file.write_text(TWO_SCOPES, encoding="utf-8")
    assert reload(sidecar)[0] in {None, 200}
    mended = sidecar.scrape_until(lambda scrape: scrape.value(SUCCESSFUL) == 1, "the reload has succeeded")
    assert scopes(mended) == {"chat", "default", "other", "thread"}
    assert mended.value(SUCCEEDED_AT) > before.value(SUCCEEDED_AT)
    assert mended.regressions(failed) == []


def test_a_scope_that_a_reload_adds_is_there_at_zero_and_then_counts(sidecar):
    tracker = SessionTracker(sidecar.journal)
    tracker.created("a user", "before", scope="thread")
    sidecar.scrape_until(lambda scrape: scrape.value("session_creates_total", scope="other"), "the create")
    before = sidecar.scrape()
    sidecar.config_file.write_text(TWO_SCOPES, encoding="utf-8")
    assert post(sidecar)[0] == 200
    added = sidecar.scrape()
    assert added.value("session_creates_total", scope="thread") == 0
    causes = added.of("session_rapid_duplicate_creates_total", scope="thread")
    assert sorted(causes.values()) == [0] * len(CAUSES)
    assert len(added.of("session_ends_total", scope="thread")) == len(END_REASONS)
    assert added.value("session_creates_created", scope="thread") > added.value("session_creates_created", scope="chat")
    assert added.regressions(before) == []
    tracker.created("a user", "after", scope="thread")
    tracker.close()
    counted = sidecar.scrape_until(lambda scrape: scrape.value("session_creates_total", scope="thread"), "the create")
    assert counted.value("session_creates_total", scope="other") == 1


def test_without_the_lifecycle_flag_a_reload_is_forbidden(tmp_path):
    with Sidecar(tmp_path) as sidecar:
        sidecar.start()
        assert post(sidecar)[0] == 403


def test_a_new_window_judges_from_the_reload_on(sidecar):
    tracker = SessionTracker(sidecar.journal)
    for number in range(2):
        tracker.created("a user", f"old {number}", scope="chat")
    name = "session_rapid_duplicate_creates_total"
    sidecar.scrape_until(lambda scrape: scrape.total(name, scope="chat") == 1, "the first duplicate")
    sidecar.config_file.write_text(ONE_SCOPE.replace("{duplicate_window: 5s}", "{sessions_per_user: many}"))
    assert post(sidecar)[0] == 200
    for number in range(2):
        tracker.created("a user", f"new {number}", scope="chat")
    tracker.close()
    scrape = sidecar.scrape_until(lambda scrape: scrape.value("session_creates_total", scope="chat") == 4, "creates")
    assert scrape.total(name, scope="chat") == 1
