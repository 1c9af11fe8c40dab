"""A chat over websockets that knows nothing of session-exporter: a token per user, messages handled concurrently."""

import asyncio
import os
from typing import Any
from uuid import uuid4

from sqlalchemy import Column, MetaData, String, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

metadata = MetaData()
sessions = Table(
    "conversation_sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("ended_reason", String),
)
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10, max_overflow=10)
locked_out = create_async_engine(os.environ["WRONG_PASSWORD_URL"])


class Tokens(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        token = conn.query_params.get("token", "")
        user = token.removeprefix("token-of-")
        return None if user == token else (AuthCredentials(["chat"]), SimpleUser(user))


async def get_or_create(user: str, chosen: Any = engine) -> str:
    async with AsyncSession(chosen) as db, db.begin():
        active = select(sessions.c.id).where(sessions.c.user_id == user, sessions.c.status == "active").limit(1)
        identifier = (await db.execute(active)).scalar_one_or_none()
        if identifier is None:
            identifier = uuid4().hex
            await db.execute(insert(sessions).values(id=identifier, user_id=user, status="active"))
        return identifier


async def answer(websocket: WebSocket, message: dict[str, Any]) -> None:
    chosen = locked_out if message.get("database") == "locked" else engine
    try:
        told = {"number": message["number"], "session": await get_or_create(websocket.user.display_name, chosen)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the user is told
        told = {"number": message["number"], "error": type(error).__name__}
    await websocket.send_json(told)


async def chat(websocket: WebSocket) -> None:
    if not websocket.user.is_authenticated:
        await websocket.close(4401)
        return
    await websocket.accept()
    at_work: set[asyncio.Task[None]] = set()
    try:
        while True:
            task = asyncio.create_task(answer(websocket, await websocket.receive_json()))
            at_work.add(task)
            task.add_done_callback(at_work.discard)
    except WebSocketDisconnect:
        await asyncio.gather(*at_work, return_exceptions=True)


async def clean_up(_: Request) -> JSONResponse:
    """End every active session, as a job does to those that nobody has used for long."""
    async with AsyncSession(engine) as db, db.begin():
        idle = update(sessions).where(sessions.c.status == "active")
        done = await db.execute(idle.values(status="expired", ended_reason="expired").returning(sessions.c.id))
        return JSONResponse({"expired": len(done.all())})


app = Starlette(
    routes=[WebSocketRoute("/chat", chat), Route("/clean-up", clean_up, methods=["POST"])],
    middleware=[Middleware(AuthenticationMiddleware, backend=Tokens())],
)
