"""The key-value cache of the decode loop: grows by doubling instead of by copying every step."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 32


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of the cache whose `keys` and `values` (B, heads, L, size) are views into roomier buffers.

    A DynamicLayer copies everything at every step; here a token is copied O(1) times. Selecting or
    repeating rows works as in transformers: it replaces the views, and the next update makes new room.
    """

    _keys: Buffer | None = None
    _values: Buffer | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (B, heads, T, size) keys and values; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self._keys = _append(self._keys, self.keys, key_states)
        self._values = _append(self._values, self.values, value_states)
        self.keys, self.values = self._keys.used, self._values.used
        return self.keys, self.values


class Buffer(NamedTuple):
    """Memory with room at the end, and the view of what is used of it."""

    room: Tensor
    used: Tensor


def _append(buffer: Buffer | None, used: Tensor, new: Tensor) -> Buffer:
    """What is used (B, heads, L, size) with new (B, heads, T, size) behind it, in place where there is room."""
    length, total = used.shape[2], used.shape[2] + new.shape[2]
    # Another view than the last one means that rows were selected: the room behind it is not its own.
    if buffer is not None and buffer.used is used and buffer.room.shape[2] >= total:
        room = buffer.room
    else:
        room = new.new_empty((*new.shape[:2], max(total + _ROOM, 2 * length), new.shape[3]))
        room[:, :, :length] = used
    room[:, :, length:total] = new
    return Buffer(room, room[:, :, :total])


def new_cache(config: Any) -> tuple[DynamicCache, bool]:
    """An empty cache for the model, and whether all of its layers keep every token (plain attention)."""
    cache = DynamicCache(config=config)
    is_plain = bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)
    if is_plain:
        cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache, is_plain
