"""Controls: the same search from the same start with the same budget, by optimizers that know less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.jsonfiles import read_json, write_json
from engine.loop import optimize
from engine.result import Result

__all__ = ["optimize_with_controls"]


def optimize_with_controls(
    workflow: Callable[..., Any],
    controls: Sequence[str | Mapping[str, Any]],
    *,
    run_dir: Path | str | None = None,
    **options: Any,
) -> tuple[Result, dict[str, Result]]:
    """optimize(workflow, **options), then each control; the result, and the controls' by name.

    A control is an optimizer's name, or {"kind": name, option: value}. Every control begins where the run
    began and has its budget; its run folder is controls/NAME in the run's. Their scores (held out, where
    there is a validation) go into result.json, which the report shows. In the end the parameters hold the
    best values of the main run, not of a control.
    """
    result = optimize(workflow, run_dir=run_dir, **options)
    if result.status != "done":
        return result, {}
    found = {}
    for control in controls:
        name = control if isinstance(control, str) else str(control["kind"])
        result.reset("before")
        try:
            found[name] = optimize(
                workflow, run_dir=result.run_dir / "controls" / name, **{**options, "optimizer": control}
            )
        finally:
            result.reset("after")
    path = result.run_dir / "result.json"
    record = read_json(path)
    record["controls"] = {name: _told(control) for name, control in found.items()}
    write_json(path, record)
    return result, found


def _told(control: Result) -> Mapping[str, Any]:
    if control.validation is None:
        return {"score": control.score}
    best = control.validation.best
    return {"score": best.score, "low": best.low, "high": best.high}
