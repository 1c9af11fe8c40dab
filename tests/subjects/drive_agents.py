"""Drives openai-agents' SQLAlchemySession."""

import asyncio
from typing import Any

import truth
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def main() -> None:
    engine = create_async_engine(truth.database(truth.ASYNC_DRIVERS))

    def session(identifier: str) -> SQLAlchemySession:
        return SQLAlchemySession(identifier, engine=engine, create_tables=True)

    assert await session("mona").get_items() == []
    await session("mona").add_items(said("good morning"))
    truth.created.append((None, "mona"))
    for number in range(4):
        again = session("mona")
        assert len(await again.get_items()) == 1 + number
        await again.add_items(said("and then"))
    for number in range(6):
        # Several workers write the first message of one session.
        await asyncio.gather(*(session(f"shared-{number}").add_items(said(text)) for text in "xyz"))
        truth.created.append((None, f"shared-{number}"))
    assert await session("never issued").get_items() == []
    for _ in range(2):
        await session("mona").clear_session()
    truth.ended.append("mona")
    dead = SQLAlchemySession("lost", engine=create_async_engine(truth.DEAD.format(driver="asyncpg")))
    try:
        await dead.add_items(said("nobody hears it"))
    except OSError:
        pass
    else:
        raise AssertionError("there is no server")
    await engine.dispose()


asyncio.run(main())
truth.tell()
