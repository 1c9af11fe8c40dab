"""Who is at work: the asyncio task that runs, else the thread."""

import sys
import threading
from typing import Any


def current_task() -> Any:
    """The asyncio task that calls, also from inside of a greenlet of SQLAlchemy's; None in a thread without one."""
    asyncio = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)  # not there while another thread imports it
    loop = None if running is None else running()
    return None if loop is None else asyncio.current_task(loop)  # type: ignore[union-attr]  # it is there


def current_actor() -> int:
    """What tells tasks and threads apart while they are there."""
    task = current_task()
    return threading.get_ident() if task is None else id(task)
