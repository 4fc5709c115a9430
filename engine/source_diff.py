"""New parameter values as a unified diff of the files that the parameters were written in.

What a value replaces is found in the syntax tree: the first argument (or `value=`) of the call that
made the parameter, or the function that is one. Every edit is parsed and compared before it is
shown; what cannot be written back exactly is named with its reason, never guessed.
"""

from __future__ import annotations

import ast
import difflib
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from engine.source_text import function_source, literal, only_function

_UNKNOWN: Any = object()
_BOM = b"\xef\xbb\xbf"
_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Change:
    """A parameter's new value and where the parameter was made.

    line: the line of the `trace.param(...)` call, or of a trainable function (or its first
    decorator). kind "code": the value is the function's new source. before: the value that the
    file is expected to hold, when known; a file that holds another is left alone (of code: another body or signature).
    """

    name: str
    file: str
    line: int
    value: Any
    kind: str = "text"
    before: Any = _UNKNOWN


@dataclass(frozen=True)
class SourceDiff:
    """`text`: a patch for `git apply`, "" without changes; `skipped`: parameter name -> reason."""

    text: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The patch, with one comment line before it (which git ignores) for each skipped parameter."""
        lines = [f"# {name}: cannot be written back: {reason}\n" for name, reason in self.skipped.items()]
        return "".join(lines) + self.text


@dataclass(frozen=True)
class _Edit:
    """Bytes start:end of a file become `new`."""

    start: int
    end: int
    new: bytes


class _Refused(Exception):
    """Why a value cannot be written back."""


def source_diff(changes: Sequence[Change], *, root: Path | str | None = None) -> SourceDiff:
    """The patch that writes the changes into their files, with paths relative to root.

    root None: the folder above the working folder that holds `.git`, else the working folder, so
    that `git apply` works there. Give unchanged parameters too: a literal that made several
    parameters can be replaced only if all of them have the same value. Lines keep the file's own
    ends, so write the text with newline="" (or as bytes).
    """
    folder = Path(root).resolve() if root is not None else _repository(Path.cwd())
    skipped: dict[str, str] = {}
    patches = []
    for file in sorted({change.file for change in changes}):
        own = [change for change in changes if change.file == file]
        try:
            path, old = _read(Path(file), folder)
            new = _rewritten(old, own, skipped)
        except _Refused as reason:
            skipped.update({change.name: str(reason) for change in own})
            continue
        patches.append(_unified(path, old.decode(), new.decode()))
    return SourceDiff("".join(patches), skipped)


def _repository(folder: Path) -> Path:
    folder = folder.resolve()
    return next((path for path in (folder, *folder.parents) if (path / ".git").exists()), folder)


def _read(path: Path, root: Path) -> tuple[str, bytes]:
    """The path relative to root, and the file's bytes."""
    if not path.is_file():
        raise _Refused(f"there is no file {path}")
    if not path.resolve().is_relative_to(root):
        raise _Refused(f"{path} lies outside {root}")
    data = path.read_bytes()
    try:
        if tokenize.detect_encoding(BytesIO(data).readline)[0] not in ("utf-8", "utf-8-sig"):
            raise _Refused(f"{path} is not UTF-8")
        data.decode()
    except (SyntaxError, UnicodeDecodeError):
        raise _Refused(f"{path} is not UTF-8") from None
    return path.resolve().relative_to(root).as_posix(), data


def _rewritten(old: bytes, changes: list[Change], skipped: dict[str, str]) -> bytes:
    """The file's bytes after all edits that can be made; fills skipped for the others."""
    bom = _BOM if old.startswith(_BOM) else b""
    body = old[len(bom) :]
    source = _Source(body)
    edits: dict[tuple[int, int], dict[bytes, list[str]]] = {}
    for change in changes:
        try:
            edit = source.function_edit(change) if change.kind == "code" else source.literal_edit(change)
        except _Refused as reason:
            skipped[change.name] = str(reason)
            continue
        edits.setdefault((edit.start, edit.end), {}).setdefault(edit.new, []).append(change.name)
    for start, end in sorted(edits, reverse=True):
        versions = edits[start, end]
        if len(versions) > 1:
            names = sorted({name for owners in versions.values() for name in owners})
            skipped.update(dict.fromkeys(names, "one place made several parameters: " + ", ".join(names)))
            continue
        body = body[:start] + next(iter(versions)) + body[end:]
    return bom + body


class _Source:
    """A file's bytes with its syntax tree and the byte offset of each line."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.newline = "\r\n" if b"\r\n" in data else "\n"
        # Python ends a line at \n, \r\n and \r, and at nothing else
        self.starts = [0, *(match.end() for match in re.finditer(rb"\r\n|\r|\n", data))]
        try:
            self.tree = ast.parse(data)
        except (SyntaxError, ValueError):
            raise _Refused("the file is no longer valid Python") from None

    def literal_edit(self, change: Change) -> _Edit:
        """The edit of the one literal that made the parameter. Raises _Refused."""
        index, node = self._value_node(change)
        held = _evaluated(node)
        if change.before is not _UNKNOWN and not _is_same(held, change.before):
            raise _Refused(f"line {change.line} no longer holds the value that the run began with")
        start, end = self._span(node)
        if _is_same(held, change.value):
            return _Edit(start, end, self.data[start:end])
        column = len(self.data[self.starts[node.lineno - 1] : start].decode())
        text = literal(change.value, column).replace("\n", self.newline)
        edit = _Edit(start, end, text.encode("utf-8"))
        calls = list(_calls(_parsed(self._applied(edit))))
        try:
            written = _evaluated(_value_of(calls[index]))
        except (_Refused, IndexError):
            raise _Refused("the value cannot be written as a literal") from None
        if not _is_same(written, change.value):
            raise _Refused("the value cannot be written as a literal that is exactly equal")
        return edit

    def function_edit(self, change: Change) -> _Edit:
        """The edit of a whole function but for its decorators. Raises _Refused."""
        node = self._function_node(change)
        start, end = self._span(node)
        line_start = self.starts[node.lineno - 1]
        rest = self.data[end : self._line_end(node.end_lineno or node.lineno)].strip()
        if self.data[line_start:start].strip() or (rest and not rest.startswith(b"#")):
            raise _Refused("the function shares a line with other code")
        try:
            text = function_source(change.value, node.col_offset)
            wanted = only_function(change.value)
        except (SyntaxError, ValueError) as error:
            raise _Refused(f"the new source is not one function: {error}") from None
        if wanted.name != node.name:
            raise _Refused(f"the new source defines '{wanted.name}', not '{node.name}'")
        if _is_same_body(node, wanted):
            return _Edit(line_start, end, self.data[line_start:end])
        if change.before is not _UNKNOWN and not _is_same_body(node, only_function(change.before)):
            raise _Refused(f"line {change.line} no longer holds the source that the run began with")
        end += len(self.data[end : self._line_end(node.end_lineno or 0)].rstrip(b"\r\n"))  # a comment of the body
        edit = _Edit(line_start, end, text.replace("\n", self.newline).encode("utf-8"))
        for found in ast.walk(_parsed(self._applied(edit))):
            if isinstance(found, type(wanted)) and found.lineno == node.lineno and _is_same_body(found, wanted):
                return edit
        raise _Refused("the new source cannot be put in this place")

    def _value_node(self, change: Change) -> tuple[int, ast.expr]:
        """The parameter's call, as its number among all calls, and the node of its value."""
        covering = [(i, c) for i, c in enumerate(_calls(self.tree)) if _covers(c, change.line)]
        made = [(i, c) for i, c in covering if _called(c) in self._makers()]
        named = [(i, c) for i, c in made if _keyword(c, "name") == change.name]
        unnamed = [(i, c) for i, c in made if _keyword(c, "name") is None]
        found = named or unnamed or made  # a name may have been made unique since
        if len(found) > 1:
            found = [(i, c) for i, c in found if change.name in self._targets(c)] or found
        if len(found) != 1:
            what = "no call" if not found else "more than one call"
            raise _Refused(f"{what} on line {change.line} makes this parameter")
        if any(_contains(loop, found[0][1]) for loop in ast.walk(self.tree) if isinstance(loop, _LOOPS)):
            raise _Refused(f"the call on line {change.line} is inside a loop")
        return found[0][0], _value_of(found[0][1])

    def _makers(self) -> set[str]:
        """The names under which `param` and `Param` are known in the file."""
        names = {"param", "Param"}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                names |= {alias.asname for alias in node.names if alias.asname and alias.name in ("param", "Param")}
        return names

    def _targets(self, call: ast.Call) -> set[str]:
        """The names that a call's result is assigned to."""
        return {
            ast.unparse(target).rpartition(".")[2]
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is call
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        }

    def _function_node(self, change: Change) -> ast.FunctionDef | ast.AsyncFunctionDef:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if first <= change.line <= node.lineno:
                    return node
        raise _Refused(f"no function begins on line {change.line}")

    def _span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None  # ast.parse sets both
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _line_end(self, line: int) -> int:
        return self.starts[line] if line < len(self.starts) else len(self.data)

    def _applied(self, edit: _Edit) -> bytes:
        return self.data[: edit.start] + edit.new + self.data[edit.end :]


def _parsed(data: bytes) -> ast.AST:
    try:
        return ast.parse(data)
    except (SyntaxError, ValueError):
        raise _Refused("the value cannot be written as Python source") from None


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _covers(node: ast.Call, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _contains(outer: ast.AST, inner: ast.AST) -> bool:
    return any(node is inner for node in ast.walk(outer))


def _called(node: ast.Call) -> str:
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _keyword(node: ast.Call, name: str) -> Any:
    """A keyword's value: None if it is not given, "" if it is not a literal."""
    for keyword in node.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else ""
    return None


def _value_of(call: ast.Call) -> ast.expr:
    given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "value")]
    if not given:
        raise _Refused("the call is given no value")
    return given[0]


def _evaluated(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise _Refused(f"line {node.lineno} holds {ast.unparse(node)[:60]!r}, not a literal") from None


def _is_same(one: Any, other: Any) -> bool:
    """Equal as JSON would have it: lists and tuples alike, True unlike 1."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_same_body(one: ast.FunctionDef | ast.AsyncFunctionDef, other: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    def dump(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
        return [ast.dump(part) for part in (node.args, *node.body)] + [node.name, ast.dump(node.returns or ast.Pass())]

    return dump(one) == dump(other)


def _unified(path: str, old: str, new: str) -> str:
    """A unified diff in git's form, "" for equal texts."""
    lines = list(difflib.unified_diff(_lines(old), _lines(new), _quoted(f"a/{path}"), _quoted(f"b/{path}")))
    if not lines:
        return ""
    header = f"diff --git {_quoted(f'a/{path}').rstrip()} {_quoted(f'b/{path}').rstrip()}\n"
    ended = (line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
    return header + "".join(ended)


def _lines(text: str) -> list[str]:
    """Lines as git sees them: ended by a newline character and by nothing else."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _quoted(path: str) -> str:
    """A path as git writes it: quoted where it holds unusual characters, ended by a tab where spaces."""
    if any(ord(char) < 32 or char in '"\\\x7f' for char in path):
        escape = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
        return '"' + "".join(escape.get(c, c if ord(c) >= 32 else f"\\{ord(c):03o}") for c in path) + '"'
    return path + "\t" if " " in path else path


def changes_of(params: Iterable[Any], values: Mapping[str, Any]) -> list[Change]:
    """A Change for each parameter that knows where it was made; its present value where none is given."""
    return [
        Change(param.name, str(param.origin[0]), int(param.origin[1]), values.get(param.name, param.value), param.kind)
        for param in params
        if param.origin is not None
    ]
