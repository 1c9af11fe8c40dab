"""An application whose hooks have nowhere to write works as if there were none."""

from collections.abc import Callable
from pathlib import Path

import pytest
from instrumented import Instrumented
from test_applications import CONFIG, TABLE, post

pytestmark = [pytest.mark.e2e, pytest.mark.integration]

FLASK = ("gunicorn", "--threads", "2", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "chat_flask:app")
PATHS = [
    *(f"/work/user-{number % 5}" for number in range(20)),
    "/work/user-9?fail=true",
    "/end/user-1",
    "/work/user-1",
    "/nowhere",
]
ANSWERS = [*[200] * 20, 500, 200, 200, 404]
# Five users, and one of them again behind the end.
ROWS = "6"


def answers(postgres: object, home: Path, journal: Path) -> tuple[list[int], str, str]:
    """What the application answers, how many rows it stored, and what it logged."""
    database = postgres.database()
    postgres.psql(TABLE, database)
    url = postgres.url("psycopg", database)
    with Instrumented(home, CONFIG % "flask", FLASK, journal=journal, DATABASE_URL=url) as instrumented:
        statuses = [post(instrumented.url + path) for path in PATHS]
    return statuses, postgres.psql("SELECT count(*) FROM conversation_sessions", database), instrumented.log.read_text()


def test_a_directory_that_can_be_written_is_where_the_events_are(postgres: object, tmp_path: Path) -> None:
    statuses, rows, _ = answers(postgres, tmp_path, tmp_path / "journal")
    assert (statuses, rows) == (ANSWERS, ROWS)
    assert list((tmp_path / "journal").iterdir())


def test_a_directory_that_cannot_be_made_is_not_noticed(postgres: object, tmp_path: Path, unwritable: Path) -> None:
    statuses, rows, log = answers(postgres, tmp_path, unwritable / "missing")
    assert (statuses, rows) == (ANSWERS, ROWS)
    assert "Traceback" not in log


def test_a_directory_that_cannot_be_written_is_not_noticed(postgres: object, tmp_path: Path, unwritable: Path) -> None:
    statuses, rows, log = answers(postgres, tmp_path, unwritable)
    assert (statuses, rows) == (ANSWERS, ROWS)
    assert "Traceback" not in log


def test_a_full_disk_is_not_noticed(postgres: object, tmp_path: Path, mount: Callable[..., Path]) -> None:
    statuses, rows, log = answers(postgres, tmp_path, mount("full", "size=64k,mode=777"))
    assert (statuses, rows) == (ANSWERS, ROWS)
    assert "Traceback" not in log
