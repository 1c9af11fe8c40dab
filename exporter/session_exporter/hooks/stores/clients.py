"""The client's own methods, wrapped: each sees a command and its reply once, whatever made the client."""

import time
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final, TypeAlias

from session_exporter.hooks.stores.watcher import Staged, StoreWatcher

_Method: TypeAlias = Callable[..., Any]
_Wrap: TypeAlias = Callable[[_Method, "Pipelines"], _Method]

_MARK: Final = "_session_exporter_store"


class Pipelines:
    """The pipelines that are being executed.

    Args:
        watcher: Told of their commands.
        watch_error: The client's own, for a transaction that somebody else's write prevented.

    Attributes:
        watcher: As given.
    """

    def __init__(self, watcher: StoreWatcher, watch_error: type[Exception]) -> None:
        self.watcher = watcher
        self._watch_error = watch_error
        # By the identity of the list of commands, which is the pipeline's for as long as it is executed. The error of
        # one command hides the replies of all others from whoever executes them: they are kept before it is raised.
        self._replies: dict[int, list[Any]] = {}

    def begin(self, pipeline: Any) -> tuple[Any, list[Staged]]:
        """Before execution: the list of commands, and those that are about sessions."""
        commands = getattr(pipeline, "command_stack", ())
        staged = self.watcher.find_all(commands)
        if staged:
            self._replies[id(commands)] = []
        return commands, staged

    def keep(self, commands: Any, replies: Any) -> None:
        """Keep what was replied to a list of commands, before the first error among it is raised."""
        kept = self._replies.get(id(commands))
        if kept is not None:
            kept[:] = replies

    def end(self, commands: Any) -> list[Any]:
        """After execution: what was kept."""
        return self._replies.pop(id(commands), [])

    def raised(self, staged: list[Staged], error: Exception, replies: list[Any]) -> None:
        """Report what an execution that raised an error did all the same."""
        if replies:
            self.watcher.replied_all(staged, replies)
        elif not isinstance(error, self._watch_error):
            self.watcher.failed(staged, error)


def wrap_clients(module: ModuleType, watcher: StoreWatcher, *, asynchronous: bool) -> None:
    """Wrap the methods of `redis.client`, or of `redis.asyncio.client`.

    Raises:
        AttributeError: The module has no such class or method; nothing is wrapped then.
    """
    pipelines = Pipelines(watcher, module.WatchError)
    execute_one = _execute_one_async if asynchronous else _execute_one
    execute_all = _execute_all_async if asynchronous else _execute_all
    wrapped: list[tuple[type, str, _Wrap]] = [
        (module.Redis, "execute_command", execute_one),
        (module.Pipeline, "immediate_execute_command", execute_one),
        (module.Pipeline, "execute", execute_all),
        (module.Pipeline, "raise_first_error", _raise_first_error),
    ]
    originals = [getattr(owner, name) for owner, name, _ in wrapped]
    for (owner, name, wrap), original in zip(wrapped, originals, strict=True):
        method = wrap(original, pipelines)
        setattr(method, _MARK, (method, watcher))
        setattr(owner, name, method)


def unwrap_clients(module: ModuleType) -> None:
    """Take off what watches no more; what somebody else has wrapped in turn stays, and lets everything pass."""
    for owner, names in (
        (module.Redis, ("execute_command",)),
        (module.Pipeline, ("immediate_execute_command", "execute", "raise_first_error")),
    ):
        for name in names:
            method = getattr(owner, name)
            while _is_done(method):
                method = method.__wrapped__
                setattr(owner, name, method)


def _is_done(method: Any) -> bool:
    # Whoever wraps a method passes on what is marked on it.
    marked, watcher = getattr(method, _MARK, (None, None))
    return marked is method and watcher is not None and not watcher.active


def _execute_one(original: _Method, pipelines: Pipelines) -> _Method:
    watcher = pipelines.watcher

    @wraps(original)
    def execute_command(client: Any, *args: Any, **options: Any) -> Any:
        hits = watcher.find(args)
        if not hits:
            return original(client, *args, **options)
        began_ns = time.perf_counter_ns()
        try:
            reply = original(client, *args, **options)
        except Exception as error:
            watcher.failed([Staged(0, args, hits)], error)
            raise
        watcher.replied(hits, args, reply, (time.perf_counter_ns() - began_ns) // 1000)
        return reply

    return execute_command


def _execute_one_async(original: _Method, pipelines: Pipelines) -> _Method:
    watcher = pipelines.watcher

    @wraps(original)
    async def execute_command(client: Any, *args: Any, **options: Any) -> Any:
        hits = watcher.find(args)
        if not hits:
            return await original(client, *args, **options)
        began_ns = time.perf_counter_ns()
        try:
            reply = await original(client, *args, **options)
        except Exception as error:
            watcher.failed([Staged(0, args, hits)], error)
            raise
        watcher.replied(hits, args, reply, (time.perf_counter_ns() - began_ns) // 1000)
        return reply

    return execute_command


def _execute_all(original: _Method, pipelines: Pipelines) -> _Method:
    @wraps(original)
    def execute(pipeline: Any, *args: Any, **options: Any) -> Any:
        commands, staged = pipelines.begin(pipeline)
        if not staged:
            return original(pipeline, *args, **options)
        try:
            replies = original(pipeline, *args, **options)
        except Exception as error:
            pipelines.raised(staged, error, pipelines.end(commands))
            raise
        finally:
            pipelines.end(commands)
        pipelines.watcher.replied_all(staged, replies)
        return replies

    return execute


def _execute_all_async(original: _Method, pipelines: Pipelines) -> _Method:
    @wraps(original)
    async def execute(pipeline: Any, *args: Any, **options: Any) -> Any:
        commands, staged = pipelines.begin(pipeline)
        if not staged:
            return await original(pipeline, *args, **options)
        try:
            replies = await original(pipeline, *args, **options)
        except Exception as error:
            pipelines.raised(staged, error, pipelines.end(commands))
            raise
        finally:
            pipelines.end(commands)
        pipelines.watcher.replied_all(staged, replies)
        return replies

    return execute


def _raise_first_error(original: _Method, pipelines: Pipelines) -> _Method:
    @wraps(original)
    def raise_first_error(pipeline: Any, commands: Any, response: Any) -> Any:
        try:
            pipelines.keep(commands, response)
        except Exception as error:  # noqa: BLE001 - counted
            pipelines.watcher.count_failure(error)
        return original(pipeline, commands, response)

    return raise_first_error
