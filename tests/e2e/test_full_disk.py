"""A full disk under the journal or the state: the application goes on, scrapes answer, and what was recorded counts."""

import os
import re
from contextlib import contextmanager

import pytest
from sidecar_process import Sidecar, until

from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BLOCK_BYTES = 4096
REUSED = "session_exporter_events_total"
LOST = "session_exporter_events_lost_total"


@contextmanager
def filled(disk):
    """The disk is full to the last block, and has room again afterwards."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            _write_for_ever(file.fileno())
        yield
    finally:
        ballast.unlink()


def _write_for_ever(descriptor):
    while True:
        os.write(descriptor, bytes(BLOCK_BYTES))


class Application:
    """Emits reuses of sessions that it has created, and knows how many."""

    def __init__(self, journal):
        self.reuses = 0
        self._tracker = SessionTracker(journal)
        self._tracker.created("a user", "a session")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._tracker.close()

    def work(self, times=1):
        for _ in range(times):
            self._tracker.reused("a user", "a session")
        self.reuses += times


@pytest.fixture
def application():
    return Application


def counted(scrape):
    return scrape.value(REUSED, kind="reused")


def test_on_a_full_journal_disk_events_are_lost_by_name_and_all_others_count(tmp_path, mount, application):
    disk = mount("disk", "size=4m")
    with Sidecar(tmp_path, journal=disk / "journal") as sidecar, application(disk / "journal") as app:
        sidecar.start().scrape_until(lambda scrape: scrape.total("session_creates_total"), "the create")
        with filled(disk):
            # The segment that is open has room for some; a quarter of a mebibyte of reuses is more than that.
            app.work(20_000)
            full = sidecar.scrape_until(lambda scrape: scrape.lost(), "the losses")
        assert {dict(labels)["reason"] for labels in full.lost()} == {"disk_full"}

        def recovered():
            app.work()
            return counted(sidecar.scrape()) > counted(full)

        until(recovered, "events come through again")
        scrape = sidecar.scrape()
        lost = scrape.value(LOST, reason="disk_full", kind="reused")
        app.work(1000)
        assert sidecar.stop() == 0
        final = sidecar.start().scrape()
        assert final.value(LOST, reason="disk_full", kind="reused") == lost
        assert counted(final) + lost == app.reuses
        assert final.total("session_reuses_total") == counted(final)
        assert final.total("session_creates_total") == 1


def test_a_sidecar_starts_and_serves_while_the_journal_disk_is_full(tmp_path, mount, application):
    disk = mount("disk", "size=4m")
    with Sidecar(tmp_path, journal=disk / "journal") as sidecar, application(disk / "journal") as app:
        app.work(100)
        with filled(disk):
            sidecar.start()
            sidecar.scrape_until(lambda scrape: counted(scrape) == 100, "what was recorded before")
            sidecar.kill()
            assert counted(sidecar.start().scrape()) == 100


def test_on_a_full_state_disk_scrapes_show_the_last_commit_and_nothing_is_lost(tmp_path, mount, application):
    disk = mount("disk", "size=24m")
    with Sidecar(tmp_path, state=disk / "state") as sidecar, application(sidecar.journal) as app:
        sidecar.start().scrape_until(lambda scrape: scrape.total("session_creates_total"), "the create")
        before = sidecar.scrape()
        with filled(disk):
            app.work(5000)
            # So many users do not fit into the pages that the state has already.
            crowd = SessionTracker(sidecar.journal)
            for number in range(5000):
                crowd.created(f"user {number}", f"session {number}")
            crowd.close()
            sidecar.until_logged(r"level=error .*nothing is committed until this is mended")
            stuck = sidecar.scrape()
            assert stuck.regressions(before) == []
        mended = sidecar.scrape_until(lambda scrape: counted(scrape) == app.reuses, "everything is committed")
        assert mended.regressions(stuck) == []
        assert mended.lost() == {}
        app.work(10)
        assert sidecar.stop() == 0
        final = sidecar.start().scrape()
        assert counted(final) == app.reuses
        assert final.total("session_creates_total") == 5001
        assert final.regressions(mended) == []


def test_a_sidecar_that_is_ended_on_a_full_state_disk_says_so_and_counts_later(tmp_path, mount, application):
    disk = mount("disk", "size=24m")
    with Sidecar(tmp_path, state=disk / "state") as sidecar, application(sidecar.journal) as app:
        sidecar.start().scrape()
        with filled(disk):
            crowd = SessionTracker(sidecar.journal)
            for number in range(5000):
                crowd.created(f"user {number}", f"session {number}")
            crowd.close()
            sidecar.until_logged(r"level=error .*nothing is committed until this is mended")
            assert sidecar.stop() == 2
            assert "Traceback" not in sidecar.log
            assert re.findall(r"^session-exporter: .*disk.*full.*$", sidecar.log, re.MULTILINE)
        final = sidecar.start().scrape_until(
            lambda scrape: scrape.total("session_creates_total") == 5001, "what waited in the journal"
        )
        assert final.value(REUSED, kind="created") == 5001
        assert app.reuses == 0


def test_a_state_that_cannot_be_made_on_a_full_disk_is_one_clear_message(tmp_path, mount):
    disk = mount("disk", "size=64k")
    with Sidecar(tmp_path, state=disk / "state") as sidecar, filled(disk):
        assert sidecar.start().wait() == 2
        assert "Traceback" not in sidecar.log
        assert len(re.findall(r"^session-exporter: .*", sidecar.log, re.MULTILINE)) == 1
