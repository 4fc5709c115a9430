"""Many requests in flight, each sent to the server that has the fewest."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import openai

from rl.policies._vllm.endpoint import Refused, reason_of
from rl.policies._vllm.payload import is_aborted

T = TypeVar("T")
_MOST_ABORTS = 100
KEPT_S = 1.0
"""Seconds that an idle connection is kept: well under the 5 s after which vLLM closes it. A request sent at the
moment in which the server closes its connection is lost, and looks like a server that has gone."""


@dataclass
class Sent:
    """What became of a batch: answers by number, and the servers that failed with the reason."""

    answers: dict[int, dict[str, Any] | Refused] = field(default_factory=dict)
    served_by: dict[int, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)


class Transport:
    """Sends completion requests to some servers, from an event loop of its own."""

    def __init__(self, urls: Sequence[str], *, key: str | None, concurrency: int, timeout_s: float) -> None:
        self.concurrency, self.timeout_s = concurrency, timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-requests", daemon=True)
        self._thread.start()
        self._clients = self._run(self._connected(urls, key))

    def send(self, bodies: Mapping[int, dict[str, Any]], urls: Sequence[str]) -> Sent:
        """Send every body to one of the servers. A number that is missing from the answers was not served, for
        want of a server that is up: after its first failure a server is asked nothing more."""
        return self._run(_Batch(self, bodies, urls).send())

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._loop.is_closed():
            return
        self._run(self._disconnected())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def ask(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """One answer. Raises openai's errors."""
        known = {name: body[name] for name in ("model", "prompt")}
        rest = {name: value for name, value in body.items() if name not in known}
        answer = await self._clients[url].completions.with_raw_response.create(**known, extra_body=rest)
        return dict(json.loads(answer.content))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connected(self, urls: Sequence[str], key: str | None) -> dict[str, openai.AsyncOpenAI]:
        usual = openai.DEFAULT_CONNECTION_LIMITS
        limits = type(usual)(  # of httpx, or of httpx2 since openai 3
            max_connections=usual.max_connections,
            max_keepalive_connections=usual.max_keepalive_connections,
            keepalive_expiry=KEPT_S,
        )
        # Without the environment's proxies: these are addresses of machines of one's own.
        return {
            url: openai.AsyncOpenAI(
                base_url=f"{url}/v1",
                api_key=key or "none",
                max_retries=0,  # the batch resends, after it knows which weights the server has
                timeout=self.timeout_s,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False, limits=limits),
            )
            for url in urls
        }

    async def _disconnected(self) -> None:
        for client in self._clients.values():
            await client.close()


class _Batch:
    """One call of `send`."""

    def __init__(self, transport: Transport, bodies: Mapping[int, dict[str, Any]], urls: Sequence[str]) -> None:
        self.transport, self.bodies = transport, bodies
        self.load = dict.fromkeys(urls, 0)
        self.free = asyncio.Condition()
        self.sent = Sent()

    async def send(self) -> Sent:
        await asyncio.gather(*(self._serve(number) for number in self.bodies))
        return self.sent

    async def _serve(self, number: int) -> None:
        """Ask until there is an answer or no server."""
        aborts = 0
        while (url := await self._slot()) is not None:
            reason = None
            try:
                answer = await self.transport.ask(url, self.bodies[number])
            except openai.APITimeoutError:
                reason = f"no answer within {self.transport.timeout_s:g} s"
            except openai.APIConnectionError as error:
                reason = f"connection lost ({error.__cause__ or error})"
            except openai.APIStatusError as error:
                refused = Refused(error.status_code, reason_of(error.response.text))
                if error.status_code < 500:
                    self.sent.answers[number] = refused
                    self.sent.served_by[number] = url
                    return
                reason = str(refused)
            except ValueError as error:
                reason = f"an answer that is no JSON ({error})"
            else:
                aborts += is_aborted(answer)
                if not is_aborted(answer):
                    self.sent.answers[number] = answer
                    self.sent.served_by[number] = url
                    return
                if aborts > _MOST_ABORTS:
                    reason = f"aborted {aborts} times"
            finally:
                await self._release(url, reason)

    async def _slot(self) -> str | None:
        """The least loaded server with room; None where none is up."""
        async with self.free:
            while urls := [url for url in self.load if url not in self.sent.gone]:
                url = min(urls, key=self.load.__getitem__)
                if self.load[url] < self.transport.concurrency:
                    self.load[url] += 1
                    return url
                await self.free.wait()
        return None

    async def _release(self, url: str, reason: str | None) -> None:
        """Give the place back; with a reason the server gets nothing more in this batch."""
        async with self.free:
            self.load[url] -= 1
            if reason is not None:
                self.sent.gone.setdefault(url, reason)
            self.free.notify_all()
