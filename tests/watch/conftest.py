"""Databases of both kinds."""

from collections.abc import Iterator
from typing import Any

import pytest
from places import Place, postgres_place, sqlite_place


@pytest.fixture(params=["postgresql", "sqlite"])
def place(request: Any, tmp_path: Any) -> Iterator[Place]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        with sqlite_place(tmp_path) as found:
            yield found
        return
    with postgres_place(request.getfixturevalue("postgres")) as found:
        yield found


@pytest.fixture
def on_postgres(postgres: Any) -> Iterator[Place]:
    with postgres_place(postgres) as found:
        yield found


@pytest.fixture
def on_sqlite(tmp_path: Any) -> Iterator[Place]:
    with sqlite_place(tmp_path) as found:
        yield found
