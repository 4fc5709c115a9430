"""Strict configuration: YAML 1.2 with places, dotted overrides, pydantic models.

Every error names file:line:column, the key, the value, what is allowed and the nearest name.
"""

from __future__ import annotations

import io
import json
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from engine.errors import ConfigError, did_you_mean

Path_ = tuple[str | int, ...]
# Beside its own errors ruamel lets out ValueErrors of impossible dates and RecursionErrors of deep nesting.
_NOT_YAML = (YAMLError, ValueError, RecursionError)


class Config(BaseModel):
    """A configuration section: unknown keys are refused, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


M = TypeVar("M", bound=BaseModel)


@dataclass
class Source:
    """Configuration as read: plain data, and where each value stands."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    positions: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    overrides: dict[Path_, str] = field(default_factory=dict)

    def place(self, path: Path_) -> str:
        """'configs/grpo.yaml:3:9 at method.kind', or the override that set the value."""
        dotted = ".".join(map(str, path))
        if (text := self._nearest(self.overrides, path)) is not None:
            return f"override {text}"
        line_column = self._nearest(self.positions, path)
        where = f"{self.name}:{line_column[0]}:{line_column[1]}" if line_column else self.name
        return f"{where} at {dotted}" if dotted else where

    @staticmethod
    def _nearest(table: dict[Path_, Any], path: Path_) -> Any:
        """The entry of the longest prefix of path that has one."""
        prefixes = (path[:n] for n in range(len(path), 0, -1))
        return next((table[p] for p in prefixes if p in table), None)


def read_source(path: Path | str, overrides: Sequence[str] = ()) -> Source:
    """Read a YAML file and apply 'a.b=value' overrides. Raises ConfigError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(
            f"cannot read the config: {reason}", place=str(path), next_step="give the path of a YAML file"
        ) from None
    source = parse_source(text, str(path))
    for override in overrides:
        apply_override(source, override)
    return source


def parse_source(text: str, name: str) -> Source:
    """Plain data and positions of a YAML mapping. Raises ConfigError with line and column."""
    try:
        loaded = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        raise ConfigError(_problem(error), place=_mark(name, error), next_step="keep one of the two") from None
    except _NOT_YAML as error:
        raise ConfigError(f"not valid YAML: {_problem(error)}", place=_mark(name, error)) from None
    if loaded is not None and not isinstance(loaded, CommentedMap):
        raise ConfigError(f"the file holds a {type(loaded).__name__}", place=name, allowed="a mapping of keys")
    source = Source(name)
    source.data = _plain(loaded if loaded is not None else CommentedMap(), (), source.positions)
    return source


def apply_override(source: Source, text: str) -> None:
    """Set 'a.b=value' in the source; the value is read as YAML; a number counts in a list. Raises ConfigError."""
    dotted, equals, value = text.partition("=")
    names = dotted.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"override '{text}' is not key=value", allowed="for example trainer.steps=20")
    target: Any = source.data
    path: list[str | int] = []
    for name in names:
        if path:
            target = _section(target, path[-1])
        path.append(_key(target, [*path, name], text))
    try:
        parsed = YAML(typ="rt").load(value)
    except _NOT_YAML as error:
        raise ConfigError(f"override '{text}': not valid YAML: {_problem(error)}") from None
    target[path[-1]] = _plain(parsed, (), {})
    source.overrides[tuple(path)] = text


def _section(target: Any, key: str | int) -> Any:
    """What stands at the key; a new section where nothing does."""
    if isinstance(target, dict) and target.get(key) is None:
        target[key] = {}
    return target[key]


def _key(target: Any, path: Sequence[str | int], text: str) -> str | int:
    """The last key of the path as the target takes it. Raises ConfigError."""
    last = str(path[-1])
    if isinstance(target, dict):
        return last
    parent = ".".join(map(str, path[:-1]))
    if not isinstance(target, list):
        raise ConfigError(f"override '{text}': {parent} is not a section")
    if not last.isdecimal() or int(last) >= len(target):
        raise ConfigError(f"override '{text}': {parent} has no item '{last}'", allowed=f"0 to {len(target) - 1}")
    return int(last)


def validate(model: type[M], source: Source, path: Path_ = ()) -> M:
    """The section of the source at `path` as a model. Raises ConfigError naming every fault."""
    data: Any = source.data
    for key in path:
        data = data.get(key, {}) if isinstance(data, dict) else data
    try:
        # As JSON, because strictness there knows lists for tuples and texts for paths, and nothing more.
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        faults = [_fault(model, fault, source, path) for fault in error.errors()]
    raise ConfigError("\n".join(faults), next_step="correct the file, or see `engine schema`")


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML text that reads back as the same data."""
    text = _dump(data, allow_unicode=True)
    # ruamel writes some separators (U+0085, U+2028) bare, and reads them back as line breaks
    return text if text.isascii() or parse_source(text, "").data == data else _dump(data, allow_unicode=False)


def _dump(data: dict[str, Any], *, allow_unicode: bool) -> str:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = allow_unicode
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(data, stream)
    return stream.getvalue()


def _fault(model: type[BaseModel], fault: Any, source: Source, path: Path_) -> str:
    """One fault of a validation as a line: place, value, what is allowed."""
    loc = tuple(fault["loc"])
    place = source.place(path + _without_tags(source, path, loc))
    if fault["type"] == "extra_forbidden":
        names = sorted(_field_names(model, loc[:-1]))
        hint = did_you_mean(str(loc[-1]), names)
        return f"{place}: unknown key '{loc[-1]}'.{hint}\n  allowed: {', '.join(names)}"
    if fault["type"] == "missing":
        return f"{place}: the key is missing"
    value = repr(fault["input"])
    hint = ""
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        hint = did_you_mean(fault["input"], fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    return f"{place}: {value:.200} - {fault['msg']}{'.' + hint if hint else ''}"


def _without_tags(source: Source, path: Path_, loc: Path_) -> Path_:
    """The loc without the tags that pydantic puts behind the key of a tagged union: the file has no such key."""
    data: Any = source.data
    for key in path:
        data = data.get(key, {}) if isinstance(data, dict) else data
    kept: list[str | int] = []
    for key in loc[:-1]:
        data = dict(enumerate(data)) if isinstance(data, list) else data
        if isinstance(data, dict) and key not in data:
            continue
        kept.append(key)
        data = data.get(key) if isinstance(data, dict) else None
    return (*kept, *loc[-1:])


def _field_names(model: type[BaseModel], loc: Iterable[str | int]) -> set[str]:
    """The keys that the section at loc takes."""
    models: list[type[BaseModel]] = [model]
    for key in loc:
        tagged = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == key]
        fields = [m.model_fields[str(key)].annotation for m in models if str(key) in m.model_fields]
        models = [m for annotation in fields for m in _models_in(annotation)] or tagged or models
    return {name for m in models for name in m.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models named by an annotation such as X, X | None or list[X]."""
    if (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and not isinstance(annotation, types.GenericAlias)
    ):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]


def _plain(value: Any, path: Path_, positions: dict[Path_, tuple[int, int]]) -> Any:
    """Round-trip YAML values as plain Python; fills positions with 1-based line and column."""
    if isinstance(value, CommentedMap):
        for key in value.lc.data or ():
            line, column = value.lc.key(key) if isinstance(value.get(key), CommentedMap) else value.lc.value(key)
            positions[(*path, str(key))] = (line + 1, column + 1)
        return {str(key): _plain(item, (*path, str(key)), positions) for key, item in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(item, (*path, index), positions) for index, item in enumerate(value)]
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    # Dates are texts in YAML 1.2, and tags of others mean nothing here.
    return None if value is None else str(getattr(value, "value", value))


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or error
    return str(problem).splitlines()[0]


def _mark(name: str, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
