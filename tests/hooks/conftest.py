"""What the tests of all hooks share: a tracker whose journal is in memory."""

import pytest
from recorder import Recorder

from session_exporter.tracker import SessionTracker


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal)
