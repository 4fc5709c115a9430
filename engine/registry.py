"""Plug-ins found by name: a file in a folder, or an entry point of another package.

A plug-in file `FOLDER/NAME.py` binds its class or function to one agreed module attribute. Files
that start with an underscore, and `base.py`, are not plug-ins. Nothing is imported before `load`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Mapping
from typing import Any

from engine.errors import EngineError, UnknownName


class Registry:
    """The plug-ins of one kind.

    kind: what a message calls them ("method"); package: the folder ("rl.methods"); group: the
    entry-point group ("engine.methods"); attribute: the module attribute that holds the plug-in.
    hints: what to do instead, for names that are asked for and are no plug-in's.
    """

    def __init__(
        self,
        kind: str,
        *,
        package: str,
        group: str,
        attribute: str,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.package, self.group, self.attribute = kind, package, group, attribute
        self.hints = hints or {}

    def names(self) -> list[str]:
        """All names, sorted; imports the package's __init__ and nothing else."""
        return sorted({*self._files(), *self._entry_points()})

    def load(self, name: str, *, place: str | None = None) -> Any:
        """The plug-in of that name. Raises UnknownName, with the nearest name."""
        entry = self._entry_points().get(name)
        if entry is not None:
            return entry.load()
        if name not in self._files():
            raise UnknownName(self.kind, name, self.names(), place=place, next_step=self.hints.get(name))
        module = importlib.import_module(f"{self.package}.{name}")
        if not hasattr(module, self.attribute):
            raise EngineError(
                f"{module.__file__} binds no {self.attribute}",
                next_step=f"end the file with {self.attribute} = YourClass",
            )
        return getattr(module, self.attribute)

    def _files(self) -> list[str]:
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        names = [module.name for module in pkgutil.iter_modules(folders or [])]
        return [name for name in names if not name.startswith("_") and name != "base"]

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {entry.name: entry for entry in importlib.metadata.entry_points(group=self.group)}
