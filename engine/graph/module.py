"""A program as an object with parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import ParamError, did_you_mean
from engine.params import Author, Param


class Module:
    """Base of programs whose attributes hold parameters.

    Attributes that are parameters, modules, or lists, tuples and dicts of these are found by
    themselves, and so is the code of methods decorated with `@trace.node(trainable=True)` (which
    belongs to the class and is shared by its objects). Nothing needs to be registered.
    """

    def named_parameters(self) -> dict[str, Param]:
        """Every parameter by its path of attributes, as 'answerer.instruction' or 'steps.0.prompt'."""
        found: dict[str, Param] = {}
        seen: set[int] = set()
        for path, param in _walk(self, "", {id(self)}):
            if id(param) not in seen:
                seen.add(id(param))
                found[path] = param
        return found

    def parameters(self) -> list[Param]:
        """Every parameter, each once."""
        return list(self.named_parameters().values())

    def state_dict(self) -> dict[str, Any]:
        """Path to value, plain JSON. Live weights (values that are no text) are left to checkpoints."""
        return {path: param._peek() for path, param in self.named_parameters().items() if _is_json(param)}

    def load_state_dict(self, state: Mapping[str, Any], *, adopt: bool = False) -> None:
        """Take up a state_dict. All or nothing.

        A state does not say who wrote its code. So code that differs from what the user wrote here is taken as a
        model's and runs in the sandbox; adopt=True, or `Param.adopt` later, makes it the user's.
        Raises ParamError for a missing or an unknown path and for a value that is refused.
        """
        params = {path: param for path, param in self.named_parameters().items() if _is_json(param)}
        for path in state:
            if path not in params:
                raise ParamError(f"no parameter '{path}'.{did_you_mean(path, params)}", allowed=", ".join(params))
        missing = [path for path in params if path not in state]
        if missing:
            raise ParamError(f"the state has no value for {', '.join(missing)}")
        authors: dict[str, Author] = {
            path: "model" if param.kind == "code" and not adopt else "user" for path, param in params.items()
        }
        checked = {path: param.admit(state[path], authors[path])[0] for path, param in params.items()}
        for path, param in params.items():
            param.set(checked[path], author=authors[path])


def _is_json(param: Param) -> bool:
    return param.kind != "weights" or isinstance(param.current(), str)


def _walk(value: Any, path: str, inside: set[int]) -> Iterator[tuple[str, Param]]:
    """The parameters in a value, with their paths."""
    for name, item in _members(value):
        here = f"{path}.{name}" if path else name
        if isinstance(item, Param):
            yield here, item
        elif isinstance(item, Module | list | tuple | dict) and id(item) not in inside:
            yield from _walk(item, here, inside | {id(item)})


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(place), item) for place, item in enumerate(value))
    elif isinstance(value, Module):
        yield from vars(value).items()
        for owner in type(value).__mro__:
            for name, item in vars(owner).items():
                yield name, item if isinstance(item, Param) else _code_of(item)


def _code_of(member: Any) -> Any:
    """The code parameter of a trainable method."""
    return getattr(getattr(member, "__func__", member), "code", None)
