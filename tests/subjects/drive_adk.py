"""Drives google-adk's DatabaseSessionService."""

import asyncio
from typing import Any

import truth
from google.adk.events import Event, EventActions
from google.adk.sessions import DatabaseSessionService

APP = "desk"


async def enter(service: Any, user: str) -> str:
    """List, then create when there is nothing: what leaves room for a race."""
    found = (await service.list_sessions(app_name=APP, user_id=user)).sessions
    if found:
        return str(found[0].id)
    return await create(service, user)


async def create(service: Any, user: str, **more: Any) -> str:
    session = await service.create_session(app_name=APP, user_id=user, **more)
    truth.created.append((user, session.id))
    return str(session.id)


async def refused(attempt: Any) -> None:
    try:
        await attempt
    except Exception:  # noqa: BLE001 - the package has errors of its own for it
        return
    raise AssertionError("a create was to be refused")


async def main() -> None:
    service = DatabaseSessionService(truth.database(truth.ASYNC_DRIVERS))
    first = await enter(service, "mona")
    for _ in range(3):
        assert await enter(service, "mona") == first
        session = await service.get_session(app_name=APP, user_id="mona", session_id=first)
        change = EventActions(state_delta={"step": 1})
        await service.append_event(session, Event(author="user", invocation_id="turn", actions=change))
    await refused(create(service, "mona", session_id=first))
    for number in range(6):
        # SQLite may refuse one of them as locked, which is then rolled back.
        await asyncio.gather(*(enter(service, f"racer-{number}") for _ in range(3)), return_exceptions=True)
    await asyncio.gather(*(create(service, "nils", session_id="chosen") for _ in range(2)), return_exceptions=True)
    assert await service.get_session(app_name=APP, user_id="mona", session_id="never issued") is None
    for _ in range(2):
        await service.delete_session(app_name=APP, user_id="mona", session_id=first)
    truth.ended.append(first)
    await create(service, "mona")
    await refused(create(DatabaseSessionService(truth.DEAD.format(driver="asyncpg")), "otto"))
    truth.created[:] = [each for each in truth.created if each[0] != "otto"]
    await service.close()


asyncio.run(main())
truth.tell()
