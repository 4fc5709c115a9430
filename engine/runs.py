"""The folder of a run: its configuration, metrics, samples, journal and status.

run.json       kind, engine version, creation time
config.yaml    the resolved configuration, secrets blacked out
metrics.jsonl  one JSON object a line, written as it happens
samples.jsonl  the same, for samples
status.json    "running", "done", "failed"..., and a summary
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from engine import config as configuration
from engine.errors import ConfigError, DataError, InputError
from engine.jsonfiles import JsonLines, json_text, read_json, read_lines, unwritable, write_json, write_text

__all__ = ["REDACTED", "RunFolder", "read_json", "read_lines", "redact", "write_json", "write_text"]

REDACTED = "***"

_SECRET_KEY = re.compile(
    r"(^|_)(api_?keys?|access_?keys?|secret_?keys?|private_?keys?|token|password|passwd|passphrase|secrets?|authorization"
    r"|auth|credentials?|cookie)$"
)
# special tokens of a tokenizer end in "token" as well, and are no secret
_PLAIN_KEY = re.compile(r"(^|_)(pad|eos|bos|unk|mask|sep|cls|stop|start|end|special|per)_token$")
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_URL_KEY = re.compile(r"(?i)(?<=[?&])((?:[a-z0-9_-]*(?:key|token|secret|password|signature))=)[^&#\s]+")
_KEY_LIKE = re.compile(r"\b(?:sk-[\w-]{16,}|hf_\w{20,}|gh[pousr]_\w{20,})|(?<=Bearer )\S{8,}")


class RunFolder:
    """A run's folder, open for writing. Safe to use from several threads.

    `path`, `kind`, `config` (redacted), and `resumed`: whether the folder held this run already.
    """

    def __init__(self, path: Path, *, kind: str, config: dict[str, Any], resumed: bool) -> None:
        self.path, self.kind, self.config, self.resumed = path, kind, config, resumed
        self._metrics = JsonLines(path / "metrics.jsonl")
        self._samples = JsonLines(path / "samples.jsonl")

    @classmethod
    def open(
        cls,
        path: Path | str | None = None,
        *,
        kind: str,
        config: Mapping[str, Any],
        resume: bool = False,
        may_differ: Collection[str] = (),
    ) -> RunFolder:
        """The folder of a new run, or with `resume` of one that was begun with the same configuration.

        path None: a new runs/<kind>-<YYYYmmdd-HHMMSS>, or with `resume` the newest one of this
        configuration. A `resume` of a given path that holds no run begins it there. `may_differ`:
        dotted keys whose values a resumed run may change, such as "trainer.steps".
        Raises InputError (unwritable, taken, or a run of another kind), ConfigError (another
        configuration; names the keys).
        """
        plain = json.loads(json_text(redact(config)))
        if path is None:
            path = _newest(kind, plain, may_differ) if resume else _new_folder(Path("runs"), kind)
        path = Path(path)
        held = (path / "run.json").exists()
        if held and not resume:
            raise InputError(
                "the folder holds a run already",
                place=str(path),
                next_step="resume that run, or choose another folder",
            )
        if held:
            _check_same(path, kind, plain, may_differ)
        _begin(path, kind, plain)
        return cls(path, kind=kind, config=plain, resumed=held)

    def log(self, event: Mapping[str, Any]) -> None:
        """Append a row to metrics.jsonl. Raises InputError for what JSON cannot hold."""
        self._metrics.append(event)

    def sample(self, record: Mapping[str, Any]) -> None:
        """Append a row to samples.jsonl. Raises InputError for what JSON cannot hold."""
        self._samples.append(record)

    def rewind(self, step: int) -> int:
        """Drop the metrics and samples of later steps (row["step"] > step); returns how many.

        Each file is replaced at once, so a kill inside leaves rows that the next rewind drops.
        """
        return sum(file.keep(lambda row: not _is_later(row, step)) for file in (self._metrics, self._samples))

    def finish(self, status: str, summary: Mapping[str, Any] | None = None) -> None:
        """Write status.json: the status ("done", "failed", "stopped"...), time and summary."""
        summary = redact(dict(summary or {}))
        write_json(self.path / "status.json", {"status": status, "time": _now(), "summary": summary})

    def close(self) -> None:
        self._metrics.close()
        self._samples.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_kind(path: Path | str) -> str:
    """The kind of the run in a folder. Raises DataError where there is no run."""
    path = Path(path)
    if not path.is_dir():
        raise DataError("there is no such folder", place=str(path), next_step="give the folder of a run")
    if not (path / "run.json").is_file():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise DataError(
            f"not a run folder: run.json is missing (found {found})",
            place=str(path),
            next_step="give the folder that a run printed, such as runs/optimize-20260101-120000",
        )
    data = read_json(path / "run.json")
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise DataError("names no kind of run", place=str(path / "run.json"))
    return str(data["kind"])


def redact(value: Any, key: str = "") -> Any:
    """The same data with secrets replaced by ***.

    Secrets are the values of keys such as api_key, token, password and authorization, logins and
    keys inside URLs, and strings of the shape of well-known API keys.
    """
    secret = _is_secret(key)
    if isinstance(value, Mapping):
        return {name: redact(item, key if secret else str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, key) for item in value]
    if secret and value not in (None, "", True, False):
        return REDACTED
    if isinstance(value, str):
        return _KEY_LIKE.sub(REDACTED, _URL_KEY.sub(rf"\1{REDACTED}", _URL_LOGIN.sub(REDACTED, value)))
    return value


def _is_secret(key: str) -> bool:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    return bool(_SECRET_KEY.search(name)) and not _PLAIN_KEY.search(name)


def _is_later(row: Mapping[str, Any], step: int) -> bool:
    value = row.get("step")
    return isinstance(value, int | float) and value > step


def _begin(path: Path, kind: str, config: dict[str, Any]) -> None:
    """Make the folder and its descriptive files; run.json last, as the mark that the rest is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    write_text(path / "config.yaml", configuration.dump_yaml(config))
    write_json(path / "status.json", {"status": "running", "time": _now(), "summary": {}})
    if not (path / "run.json").exists():
        write_json(path / "run.json", {"kind": kind, "created": _now(), "format": 1})


def _new_folder(root: Path, kind: str) -> Path:
    """A folder that did not exist before this call, so that two runs of one second stay apart."""
    name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 10_000):
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not root.is_dir():
                raise InputError("is not a folder", place=str(root)) from None
        except OSError as error:
            raise unwritable(path, error) from None
    raise InputError(f"no free name for a run beside {name}", place=str(root))


def _newest(kind: str, config: dict[str, Any], may_differ: Collection[str]) -> Path:
    """The newest run of this kind and configuration in runs/."""
    files = sorted(Path("runs").glob(f"{kind}-*/run.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files:
        if run_kind(file.parent) == kind and not _differences(file.parent, config, may_differ):
            return file.parent
    raise InputError(
        f"there is no {kind} run of this configuration to resume",
        place="runs/",
        next_step="give the folder of the run, or start without resuming",
    )


def _check_same(path: Path, kind: str, config: dict[str, Any], may_differ: Collection[str]) -> None:
    if (held := run_kind(path)) != kind:
        raise InputError(
            f"the folder holds a run of kind '{held}', not '{kind}'",
            place=str(path),
            next_step="choose another folder",
        )
    if lines := _differences(path, config, may_differ):
        more = f"\n  ... and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise ConfigError(
            "the run in this folder has another configuration:\n  " + "\n  ".join(lines[:5]) + more,
            place=str(path / "config.yaml"),
            next_step="resume with the same values, or choose another folder",
        )


def _differences(path: Path, config: dict[str, Any], may_differ: Collection[str]) -> list[str]:
    """One line for each dotted key whose value differs from the folder's config.yaml."""
    old = _leaves(configuration.read_source(path / "config.yaml").data)
    new = _leaves(config)
    keys = [key for key in sorted({*old, *new}) if not _is_under(key, may_differ)]
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)!r:.80} there, {new.get(key, absent)!r:.80} here"
        for key in keys
        if old.get(key, absent) != new.get(key, absent)
    ]


def _is_under(key: str, roots: Collection[str]) -> bool:
    return any(key == root or key.startswith(root + ".") for root in roots)


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted key -> value."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    return {
        dotted: leaf
        for key, item in value.items()
        for dotted, leaf in _leaves(item, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
