"""A chat on Flask that knows nothing of session-exporter: psycopg, the ORM, a savepoint around each create."""

import os
from uuid import uuid4

from flask import Flask, jsonify, request
from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"], pool_size=4)
db = scoped_session(sessionmaker(engine))
app = Flask(__name__)


class Base(DeclarativeBase):
    pass


class ChatSession(Base):
    __tablename__ = "conversation_sessions"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    user_id: Mapped[str] = mapped_column(String)
    status: Mapped[str] = mapped_column(String)
    ended_reason: Mapped[str | None] = mapped_column(String)


@app.teardown_appcontext
def close(_: BaseException | None) -> None:
    db.remove()


@app.post("/work/<user>")
def work(user: str):
    found = db.scalars(select(ChatSession).filter_by(user_id=user, status="active").limit(1)).first()
    if found is None:
        with db.begin_nested():
            found = ChatSession(id=uuid4().hex, user_id=user, status="active")
            db.add(found)
    identifier = found.id
    if request.args.get("fail") == "true":
        db.rollback()
        return jsonify(error="as asked"), 500
    db.commit()
    return jsonify(session=identifier)


@app.post("/end/<user>")
def end(user: str):
    active = db.scalars(select(ChatSession).filter_by(user_id=user, status="active")).all()
    for each in active:
        each.status, each.ended_reason = "closed", "user_request"
    db.commit()
    return jsonify(ended=len(active))
