"""The form's server: its address, its life, and how others find it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from sqlalchemy import delete, insert, select
from starlette.concurrency import run_in_threadpool

from engine.errors import EnvironmentMissing, InputError
from engine.ranking.desk import LEASE_S
from engine.ranking.store import RankingStore
from engine.ranking.tables import servers
from engine.ranking.web.app import Form, make_app

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORT = 8765
BEAT_S = 2.0
GRACE_S = 2


@dataclass(frozen=True)
class Address:
    """Where the server listens. port: None for 8765, or any where that is taken. url: under which it is reached, where
    that is another one, such as a proxy's with https. is_remote: whether other machines may come; without it an
    address beyond this machine is refused."""

    host: str = "127.0.0.1"
    port: int | None = None
    url: str | None = None
    is_remote: bool = False

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.is_remote:
            raise InputError(
                f"the host is {self.host}, which other machines reach",
                allowed=", ".join(LOOPBACK),
                next_step="give --remote too, if others shall come; each needs a link of their own in any case",
            )
        if self.url is not None and urlsplit(self.url).scheme not in ("http", "https"):
            raise InputError(f"the url is {self.url!r}", allowed="such as https://rank.example.org")

    def hosts(self) -> set[str]:
        """The names under which the server answers."""
        named = {urlsplit(self.url).hostname or ""} if self.url else set()
        everywhere = {socket.gethostname()} if self.host in ("0.0.0.0", "::") else {self.host}
        return {*LOOPBACK, *named, *everywhere}

    def reached(self, port: int) -> str:
        """The address for people, by the port that it was given."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return (self.url or f"http://{f'[{host}]' if ':' in host else host}:{port}").rstrip("/")


def serve(
    store: RankingStore,
    address: Address,
    *,
    lease_s: float = LEASE_S,
    rate: float = 100.0,
    idle_s: float | None = None,
    started: Callable[[str], Any] = lambda url: None,
) -> None:
    """Serve the form until a signal asks to stop; open pages are let go within 3 seconds.

    idle_s: end by itself after so long without a request while nothing is asked. started: told the url once the server
    listens. Raises EnvironmentMissing where the port is taken or the host is not this machine's.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that is none
    listener = _listener(address)
    url = address.reached(listener.getsockname()[1])
    asyncio.run(_served(store, address, listener, url, lease_s, rate, idle_s, started))


def running(store: RankingStore, *, within_s: float = 5 * BEAT_S) -> str | None:
    """The url of a server that serves the store now, by what it left there; None where there is none."""
    chosen = select(servers.c.url).where(servers.c.beat > time.time() - within_s).order_by(servers.c.beat.desc())
    with store.database.reading() as connection:
        return connection.execute(chosen).scalar()


def forget(store: RankingStore, url: str, pid: int) -> None:
    """Take back what a server left there: it has ended."""
    with store.database.writing() as connection:
        connection.execute(delete(servers).where(servers.c.url == url, servers.c.pid == pid))


class _Server(uvicorn.Server):
    """Tells the streams to end as soon as a signal comes: they would keep the server from stopping."""

    def __init__(self, config: uvicorn.Config, form: Form) -> None:
        super().__init__(config)
        self._form = form

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._form.stopping.set()
        super().handle_exit(sig, frame)


async def _served(
    store: RankingStore,
    address: Address,
    listener: socket.socket,
    url: str,
    lease_s: float,
    rate: float,
    idle_s: float | None,
    started: Callable[[str], Any],
) -> None:
    form = Form(store, lease_s=lease_s, is_secure=url.startswith("https:"))

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        beating = asyncio.create_task(_beat(store, url, form, server, idle_s))
        try:
            yield
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
            forget(store, url, os.getpid())

    config = uvicorn.Config(
        make_app(form, hosts=address.hosts(), rate=rate, lifespan=lifespan),
        log_level="error",  # what strangers send that is no HTTP fills no log
        access_log=False,  # it would hold the links, which sign people in
        server_header=False,
        http="h11",
        ws="none",
        limit_concurrency=512,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=32 << 10,
    )
    server = _Server(config, form)
    started(url)
    await server.serve(sockets=[listener])


async def _beat(store: RankingStore, url: str, form: Form, server: uvicorn.Server, idle_s: float | None) -> None:
    """Leave word that the server lives, and end it when nobody has needed it for long."""
    while True:
        await run_in_threadpool(_note, store, url)
        if idle_s is not None and time.monotonic() - form.last_request > idle_s:
            counts = await run_in_threadpool(store.counts)
            if not counts["open"]:
                form.stopping.set()
                server.should_exit = True
        await asyncio.sleep(BEAT_S)


def _note(store: RankingStore, url: str) -> None:
    with store.database.writing() as connection:
        connection.execute(delete(servers).where(servers.c.url == url))
        connection.execute(insert(servers).values(url=url, pid=os.getpid(), beat=time.time()))


def _listener(address: Address) -> socket.socket:
    if address.port is not None:
        return _bound(address.host, address.port)
    try:
        return _bound(address.host, PORT)
    except EnvironmentMissing:
        return _bound(address.host, 0)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of a socket that does not say that it is TCP's, asyncio leaves Nagle's delay on: 40 ms for each answer on a
    # connection that is kept, as browsers keep them.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise EnvironmentMissing(
            f"cannot listen at {host} port {port}: {error.strerror or error}",
            next_step="choose another port with --port, or 0 for any that is free",
        ) from None
    return listener
