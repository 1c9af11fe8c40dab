"""A mapped table to write to in every style, and what the journal is told about it."""

from typing import Any

import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy import orm

from session_exporter.core import events

IS_14 = sa.__version__.startswith("1.4.")

Base: Any = orm.declarative_base()


class Chat(Base):
    __tablename__ = "chats"
    id = sa.Column(sa.String(40), primary_key=True)
    owner = sa.Column("user_id", sa.String(40))
    status = sa.Column(sa.String(20), default="active")
    reason = sa.Column("ended_reason", sa.String(20))
    task = sa.Column(sa.String(20))


class Ticket(Base):
    """With an id that the database makes."""

    __tablename__ = "tickets"
    id = sa.Column(sa.Integer, primary_key=True)
    user_id = sa.Column(sa.String(40), unique=True)


class Message(Base):
    __tablename__ = "messages"
    id = sa.Column(sa.Integer, primary_key=True)
    session_id = sa.Column(sa.String(40), nullable=False)
    chat_id = sa.Column(sa.ForeignKey("chats.id"))
    text = sa.Column(sa.String(40))
    chat = orm.relationship(Chat, backref="messages")


class Other(Base):
    __tablename__ = "others"
    id = sa.Column(sa.String(40), primary_key=True)


chats: Any = Chat.__table__
tickets: Any = Ticket.__table__
messages: Any = Message.__table__
others: Any = Other.__table__


def told(journal: Recorder) -> list[tuple[Any, ...]]:
    """What the journal holds, as words: kind, session, user, and what else matters of the kind."""
    return [_words(event) for event in journal.events]


def kinds(journal: Recorder) -> list[str]:
    return [words[0] for words in told(journal)]


def created(journal: Recorder) -> list[str]:
    return [event.session for event in journal.events if isinstance(event, events.Created)]


def ended(journal: Recorder) -> list[str]:
    return [event.session for event in journal.events if isinstance(event, events.Ended)]


def _words(event: Any) -> tuple[Any, ...]:
    kind = events.KINDS[type(event)]
    words = (kind, event.session, event.user)
    if isinstance(event, events.LookedUp):
        return (*words, "again") if event.again else words
    if isinstance(event, events.Observed):
        return (*words, ("result", "upsert", "row")[event.origin], event.generation)
    if isinstance(event, events.Created):
        return (*words, event.generation) if event.generation else words
    if isinstance(event, events.Ended | events.CreateFailed):
        return (*words, event.reason)
    return words
