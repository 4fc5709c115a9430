"""torch, imported when it is first used.

A method's file holds its Config beside its formulas, and `engine validate` and `engine schema` want no
more than the Config: loading torch for that would cost seconds. So the methods, and the operations that
they import, take torch from here. Everything else imports it plainly.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["torch"]


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        self.__dict__[name] = value  # so the next look-up costs nothing
        return value


if TYPE_CHECKING:
    import torch as torch
else:
    torch = _Lazy("torch")
