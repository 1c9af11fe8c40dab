"""A chat on FastAPI that knows nothing of session-exporter: asyncpg, one transaction a request, the race left in."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import Column, MetaData, String, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

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


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def database() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session, session.begin():
        yield session


Database = Annotated[AsyncSession, Depends(database)]


async def get_or_create(user: str, db: AsyncSession) -> str:
    found = await db.execute(
        select(sessions.c.id).where(sessions.c.user_id == user, sessions.c.status == "active").limit(1)
    )
    identifier = found.scalar_one_or_none()
    if identifier is None:
        identifier = uuid4().hex
        await db.execute(insert(sessions).values(id=identifier, user_id=user, status="active"))
    return identifier


@app.post("/work/{user}")
async def work(user: str, db: Database, *, fail: bool = False) -> dict[str, str]:
    identifier = await get_or_create(user, db)
    if fail:
        raise HTTPException(500, "as asked")
    return {"session": identifier}


@app.post("/end/{user}")
async def end(user: str, db: Database) -> dict[str, int]:
    done = await db.execute(
        update(sessions)
        .where(sessions.c.user_id == user, sessions.c.status == "active")
        .values(status="closed", ended_reason="user_request")
        .returning(sessions.c.id)
    )
    return {"ended": len(done.all())}
