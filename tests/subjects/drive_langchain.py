"""Drives langchain-community's SQLChatMessageHistory, in threads, and asynchronously where SQLAlchemy allows it."""

import asyncio
import threading
import warnings

warnings.simplefilter("ignore")

import sqlalchemy  # noqa: E402 - the package warns at its import
import truth  # noqa: E402
from langchain_community.chat_message_histories import SQLChatMessageHistory  # noqa: E402
from langchain_core.messages import AIMessage, HumanMessage  # noqa: E402

url = truth.database(truth.SYNC_DRIVERS)
engine = sqlalchemy.create_engine(url)


def history(identifier: str) -> SQLChatMessageHistory:
    return SQLChatMessageHistory(session_id=identifier, connection=engine)


def greet(identifier: str, together: threading.Barrier) -> None:
    chat = history(identifier)
    together.wait()
    if not chat.messages:
        chat.add_message(HumanMessage("hello"))


def in_threads() -> None:
    first = history("mona:1")
    assert first.messages == []
    first.add_messages([HumanMessage("one"), AIMessage("two")])
    truth.created.append((None, "mona:1"))
    for _ in range(3):
        assert history("mona:1").messages
        history("mona:1").add_message(HumanMessage("more"))
    for number in range(4):
        together = threading.Barrier(2)
        threads = [threading.Thread(target=greet, args=(f"shared:{number}", together)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        truth.created.append((None, f"shared:{number}"))
    assert history("never issued").messages == []
    for _ in range(2):
        history("mona:1").clear()
    truth.ended.append("mona:1")


async def in_a_loop() -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    other = create_async_engine(truth.database(truth.ASYNC_DRIVERS))
    chat = SQLChatMessageHistory(session_id="loop:1", connection=other)
    await chat.aadd_messages([HumanMessage("one"), HumanMessage("two")])
    truth.created.append((None, "loop:1"))
    assert len(await chat.aget_messages()) == 2
    await other.dispose()


in_threads()
if not sqlalchemy.__version__.startswith("1."):
    asyncio.run(in_a_loop())
truth.tell()
