"""A chat on FastAPI that knows nothing of session-exporter and finds its sessions by a cookie.

Conversations are rows of a database, web sessions are keys of a Redis, and whoever's session is gone gets a new one
without a word. Reports are written with one database session for everybody.
"""

import json
import os
from typing import Annotated
from uuid import uuid4

from fastapi import Cookie, FastAPI, Response
from redis.asyncio import Redis
from sqlalchemy import Column, MetaData, String, Table, create_engine, delete, insert, select, text
from sqlalchemy.orm import Session
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

metadata = MetaData()
conversations = Table(
    "conversations", metadata, Column("id", String, primary_key=True), Column("user_id", String, nullable=False)
)
engine = create_engine(os.environ["DATABASE_URL"])
redis = Redis.from_url(os.environ["REDIS_URL"])
reports = Session(engine)

Sid = Annotated[str | None, Cookie()]


class Headers(AuthenticationBackend):
    """Whoever says who they are is believed."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        return AuthCredentials(), SimpleUser(conn.headers["x-user"])


app = FastAPI()
app.add_middleware(AuthenticationMiddleware, backend=Headers())


@app.post("/chat/{user}")
def chat(user: str, response: Response, sid: Sid = None) -> str:
    with Session(engine) as database, database.begin():
        found = database.scalar(select(conversations.c.id).where(conversations.c.id == sid)) if sid else None
        if found is None:
            found = uuid4().hex
            database.execute(insert(conversations).values(id=found, user_id=user))
    response.set_cookie("sid", found)
    return found


@app.delete("/chat/{user}")
def leave(user: str, sid: Sid = None) -> None:
    with Session(engine) as database, database.begin():
        database.execute(delete(conversations).where(conversations.c.id == sid))


@app.post("/web/{user}")
async def web(user: str, response: Response, sid: Sid = None) -> str:
    held = await redis.get(f"web:{sid}") if sid else None
    if held is None:
        sid = uuid4().hex
    visits = json.loads(held)["visits"] if held else 0
    await redis.set(f"web:{sid}", json.dumps({"user": user, "visits": visits + 1}), ex=3600)
    response.set_cookie("sid", str(sid))
    return str(sid)


@app.post("/report/{user}")
def report(user: str) -> str:
    return str(reports.scalar(text("SELECT count(*) FROM conversations")))
