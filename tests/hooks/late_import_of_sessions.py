"""Watches database sessions before SQLAlchemy is imported, and prints what is reported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tracker"))

from recorder import Recorder

from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
from session_exporter.tracker import SessionTracker

journal = Recorder()
watch_db_sessions(SessionTracker(journal=journal))
assert not [name for name in sys.modules if name.startswith("sqlalchemy")]

import sqlalchemy  # noqa: E402 - late, which is what it is about
from sqlalchemy.orm import Session  # noqa: E402 - as above

with Session(sqlalchemy.create_engine("sqlite://", future=True), future=True) as session:
    session.execute(sqlalchemy.text("SELECT 1"))
    session.commit()
for event in journal.events:
    print(type(event).__name__, event.outcome)  # noqa: T201 - its use
