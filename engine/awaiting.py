"""Coroutines of a user's program, run from worker threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any


class Awaiter:
    """Runs awaitables to their end, from any thread, all on one event loop.

    loop: the caller's own running loop (optimize_async), so that clients bound to it keep working;
    None: a loop in a thread of its own, started when the first awaitable comes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __call__(self, awaitable: Awaitable[Any]) -> Any:
        """The awaitable's result. It sees the calling thread's context variables."""
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the thread, if one was started."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()
            self._loop = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="engine-awaiter", daemon=True)
                self._thread.start()
            return self._loop


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
