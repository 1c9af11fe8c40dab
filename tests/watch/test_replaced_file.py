"""A file of SQLite that is replaced by another one, as a restored backup does it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url

from session_exporter.watch.database import Database


def test_what_is_read_is_the_file_that_is_there_now(tmp_path: Path) -> None:
    for name, session in (("now.db", "old"), ("restored.db", "new")):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.executescript(f"CREATE TABLE sessions (id text); INSERT INTO sessions VALUES ('{session}')")
    database = Database(make_url(f"sqlite:///{tmp_path / 'now.db'}"))
    found = []
    for replaced_by in ("restored.db", "now.db"):
        with database.reading() as connection:
            found.append(connection.execute(text("SELECT id FROM sessions")).scalar_one())
        (tmp_path / replaced_by).rename(tmp_path / "now.db")
    assert found == ["old", "new"]
