"""Controls begin where the run began, and leave the run's own result in place."""

from __future__ import annotations

import json

from engine import Budget, trace
from engine.controls import optimize_with_controls
from engine.llm import ScriptedLLM
from engine.optimizers.numeric import Numeric


def test_controls_start_alike_and_the_run_keeps_its_own_values(tmp_path):
    number = trace.param(0, name="number", ge=0, le=100)

    @trace.node
    def distance(number):
        return abs(number - 7)

    llm = ScriptedLLM(["7"], cycle=True)
    result, controls = optimize_with_controls(
        lambda: distance(number),
        ["random", {"kind": "placebo", "of": {"kind": "opro", "explore": 1}}],
        feedback=lambda example, output: -float(output),
        optimizer="opro",
        llm=llm,
        budget=Budget(evaluations=3, invalid=6),
        run_dir=tmp_path / "run",
    )
    assert result.best == {"number": 7} and number.value == 7
    assert set(controls) == {"random", "placebo"}
    assert all(control.baseline == result.baseline == -7 for control in controls.values())
    assert all((tmp_path / "run" / "controls" / name / "result.json").exists() for name in controls)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "placebo" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert {name: told["score"] for name, told in record["controls"].items()} == {
        name: control.score for name, control in controls.items()
    }


def test_a_placebo_is_one_of_the_optimizer_that_ran(tmp_path):
    number = trace.param(0.0, name="number", ge=0, le=100)

    @trace.node
    def distance(number):
        return abs(number - 7)

    asked = [
        "numeric",
        "auto",
        {"kind": "numeric", "sampler": "random"},
        Numeric(startup=3),
        {"kind": "rank", "mu": 0.3},
    ]
    expected = [{}, {}, {"sampler": "random"}, {"startup": 3}, {"mu": 0.3}]
    for i, (optimizer, options) in enumerate(zip(asked, expected, strict=True)):
        result, controls = optimize_with_controls(
            lambda: distance(number), ["placebo"], feedback=lambda example, output: -float(output),
            optimizer=optimizer, budget=Budget(evaluations=8), run_dir=tmp_path / str(i),
        )  # fmt: skip
        result.reset("before")
        assert controls["placebo"].optimizer == "placebo" and result.score >= controls["placebo"].baseline
        text = (controls["placebo"].run_dir / "config.yaml").read_text()
        assert f"kind: {result.optimizer}" in text
        assert all(f"{name}: {value}" in text for name, value in options.items())
