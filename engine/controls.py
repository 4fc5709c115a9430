"""Controls: the same search from the same start with the same budget, by optimizers that know less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import optimizers
from engine.jsonfiles import read_json, write_json
from engine.loop import optimize
from engine.optimizers.base import Optimizer
from engine.result import Result, write_page

__all__ = ["optimize_with_controls"]


def optimize_with_controls(
    workflow: Callable[..., Any],
    controls: Sequence[str | Mapping[str, Any]],
    *,
    run_dir: Path | str | None = None,
    **options: Any,
) -> tuple[Result, dict[str, Result]]:
    """optimize(workflow, **options), then each control; the result, and the controls' by name.

    A control is an optimizer's name, or {"kind": name, option: value}; "placebo" alone is that of the run's own
    optimizer, with its options, so that nothing but the judgements differs. Every control begins where the run
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
        known = _placebo(options.get("optimizer", "auto"), result.optimizer) if control == "placebo" else control
        result.reset("before")
        try:
            found[name] = optimize(
                workflow, run_dir=result.run_dir / "controls" / name, **{**options, "optimizer": known}
            )
        finally:
            result.reset("after")
    path = result.run_dir / "result.json"
    record = read_json(path)
    record["controls"] = {name: _told(control) for name, control in found.items()}
    write_json(path, record)
    write_page(result)
    return result, found


def _placebo(asked: str | Mapping[str, Any] | Optimizer, name: str) -> str | Mapping[str, Any]:
    """The placebo of the optimizer that ran; of a class without a name the usual one."""
    if isinstance(asked, Mapping):
        return {"kind": "placebo", "of": dict(asked)}
    if isinstance(asked, Optimizer):
        options = asked.options() if name in optimizers.names() else None
        return "placebo" if options is None else {"kind": "placebo", "of": {"kind": name, **options}}
    return {"kind": "placebo", "of": {"kind": name}}


def _told(control: Result) -> Mapping[str, Any]:
    if control.validation is None:
        return {"score": control.score}
    best = control.validation.best
    return {"score": best.score, "low": best.low, "high": best.high}
