"""Calls to a language model, recorded and replayed byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import json
import re
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import ConfigError, DataError, InputError, ReplayError
from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.schema import Schema
from engine.llm.steering import read_steering
from engine.llm.structured import MalformedAnswer

_DATA = re.compile(r"(?P<head>data:[\w/+.-]+;)?(?:base64,)?(?P<data>[A-Za-z0-9+/]{256,}=*)")

Mode = Literal["cache", "record", "replay"]


class CachedLLM(LLM):
    """A model whose calls are kept in one SQLite file.

    mode "cache" takes an answer from the record, else from the model; "record" always asks the model
    and overwrites; "replay" never asks and raises ReplayError for a call that is not in the record.
    A call's key is the SHA-256 of the canonical JSON of model name, messages, schema, n and sampling.
    Calls with equal keys are numbered as they start: a program that samples one prompt several
    times gets several answers, and a replay gives the same answers, in the same order when
    its calls are in order and the same multiset when they are concurrent.
    An answer that stayed malformed is part of the record; an endpoint that was down is not.
    Nothing but the request and the answer is written: no key, header or address credential; of a picture or sound in a
    message its digest.

    llm: the model; for a replay its name is enough.
    """

    def __init__(self, llm: LLM | str, path: Path | str, *, mode: Mode = "cache") -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"mode is '{mode}'", place="CachedLLM", allowed=", ".join(get_args(Mode)))
        if isinstance(llm, str) and mode != "replay":
            raise ConfigError(f"mode '{mode}' needs a model, not its name '{llm}'", place="CachedLLM")
        if mode == "replay" and not Path(path).is_file():
            raise DataError("there is no record", place=str(path), next_step="record one with mode='record'")
        self._llm = None if isinstance(llm, str) else llm
        self.name = llm if isinstance(llm, str) else llm.name
        if not isinstance(llm, str):
            self.is_remote, self.price, self.tells_cost = llm.is_remote, llm.price, llm.tells_cost
        self.path, self.mode = Path(path), mode
        self._lock = threading.Lock()
        self._started: dict[str, int] = defaultdict(int)
        self._released: dict[str, list[int]] = defaultdict(list)
        self._db = _opened(self.path)

    def __repr__(self) -> str:
        return f"CachedLLM({self.name!r}, {str(self.path)!r}, mode={self.mode!r})"

    def __enter__(self) -> CachedLLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def steering_modes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The model's; of a replayed one, those of the recorded calls."""
        if self._llm is not None:
            return self._llm.steering_modes
        with self._lock:
            rows = self._db.execute(
                "SELECT DISTINCT json_extract(request, '$.sampling.steering') FROM calls"
            ).fetchall()
        steerings = [read_steering(json.loads(text)) for (text,) in rows if text]
        return tuple(sorted({steering.mode for steering in steerings if steering is not None}))

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        with self._lock:
            self._db.close()

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        request = _canonical(
            {
                "name": self.name,
                "messages": [_without_data(message) for message in messages],
                "schema": schema,
                "n": n,
                "sampling": sampling,
            }
        )
        key = hashlib.sha256(request.encode()).hexdigest()
        occurrence = self._start(key)
        stored = None if self.mode == "record" else self._stored(key, occurrence)
        if stored is not None:
            return _restored(json.loads(stored))
        if self.mode == "replay" or self._llm is None:
            raise ReplayError(
                f"call {key[:12]}, occurrence {occurrence + 1}, is not in the record: {str(messages[-1])!r:.160}",
                place=str(self.path),
                next_step="replay the same program with the same inputs, or record it anew",
            )
        try:
            answer = self._llm.complete(messages, schema=schema, n=n, **sampling)
        except MalformedAnswer as error:
            self._store(key, occurrence, request, _text({"error": error.to_json()}))
            raise
        except BaseException:
            # The next equal call takes this number, so that a retry after a failure replays as one call.
            with self._lock:
                heapq.heappush(self._released[key], occurrence)
            raise
        self._store(key, occurrence, request, _text(dataclasses.asdict(answer)))
        return answer

    @property
    def can_embed(self) -> bool:
        return self._llm is not None and self._llm.can_embed

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The model's own vectors; they are made anew and not recorded."""
        return super().embed(texts) if self._llm is None else self._llm.embed(texts)

    def _start(self, key: str) -> int:
        """The number of this call among those with its key, from 0."""
        with self._lock:
            if self._released[key]:
                return heapq.heappop(self._released[key])
            self._started[key] += 1
            return self._started[key] - 1

    def _stored(self, key: str, occurrence: int) -> str | None:
        with self._lock:
            row = self._db.execute(
                "SELECT answer FROM calls WHERE key = ? AND occurrence = ?", (key, occurrence)
            ).fetchone()
        return None if row is None else str(row[0])

    def _store(self, key: str, occurrence: int, request: str, answer: str) -> None:
        with self._lock, self._db:
            self._db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", (key, occurrence, request, answer))


def _opened(path: Path) -> sqlite3.Connection:
    """The record's database, made if it is not there. Raises DataError for a file that is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a call that was stored survives a kill of the process
        connection.execute(
            "CREATE TABLE IF NOT EXISTS calls"
            " (key TEXT, occurrence INTEGER, request TEXT, answer TEXT, PRIMARY KEY (key, occurrence))"
        )
    except sqlite3.DatabaseError as error:
        connection.close()
        raise DataError(
            f"not a record of calls: {error}", place=str(path), next_step="give another path, or remove the file"
        ) from None
    return connection


def _without_data(value: Any) -> Any:
    """A message with the digest of each long piece of base64 data in its place."""
    if isinstance(value, Mapping):
        return {key: _without_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_data(item) for item in value]
    if isinstance(value, str) and (found := _DATA.fullmatch(value)):
        return f"{found['head'] or ''}sha256,{hashlib.sha256(found['data'].encode()).hexdigest()}"
    return value


def _canonical(value: Mapping[str, Any]) -> str:
    """JSON text that is equal for equal values."""
    return _text(value, sort_keys=True, separators=(",", ":"))


def _text(value: Mapping[str, Any], **style: Any) -> str:
    """JSON text. Raises InputError for what JSON cannot hold."""
    try:
        return json.dumps(value, allow_nan=False, default=_plain, **style)
    except (TypeError, ValueError) as error:
        raise InputError(f"a call to be recorded holds what JSON cannot: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} {value!r:.60}")


def _restored(stored: dict[str, Any]) -> Completion:
    """The completion as it was recorded. Raises MalformedAnswer if that is what the call ended with."""
    if "error" in stored:
        raise MalformedAnswer.from_json(stored["error"])
    return Completion(
        texts=tuple(stored["texts"]),
        finish_reasons=tuple(stored["finish_reasons"]),
        parsed=tuple(stored["parsed"]),
        usage=Usage(**stored["usage"]),
        rejected=tuple(stored["rejected"]),
        is_cached=True,
    )
