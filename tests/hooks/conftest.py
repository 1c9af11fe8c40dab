"""What the tests of all hooks share: a tracker whose journal is in memory."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from recorder import Recorder

from session_exporter.tracker import SessionTracker

if TYPE_CHECKING:
    from django_site import DjangoSite


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(journal: Recorder) -> SessionTracker:
    return SessionTracker(journal=journal)


@pytest.fixture(scope="session")
def _django_site(tmp_path_factory: pytest.TempPathFactory) -> "DjangoSite":
    from django_site import DjangoSite

    return DjangoSite(tmp_path_factory.mktemp("django"))


@pytest.fixture
def django_site(_django_site: "DjangoSite") -> Iterator["DjangoSite"]:
    """A Django project, of which a process can have but one."""
    yield _django_site
    _django_site.reset()
