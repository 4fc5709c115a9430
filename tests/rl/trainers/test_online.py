"""The on-policy loop on a tiny model: it learns, records what it did, stops when asked and fails loudly."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import rl
from engine.errors import ConfigError, NonFinite, Stopped, UnknownName
from rl import checkpoint
from rl.config import TrainerConfig
from rl.run import dry_run
from rl.trainers.loop import learning_rate
from rl.trainers.online import OnlineTrainer
from rl.types import Group, Prompt


def train(config: dict[str, Any], run: Path, *overrides: str, resume: bool = False) -> rl.Run:
    return rl.train(config, overrides, resume, run_dir=run, is_quiet=True)


def test_it_learns_and_its_folder_tells_how(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    run = train(tiny_config, tmp_path / "run", "trainer.steps=25", "trainer.save_every=25", "trainer.eval_every=25")
    steps = [row for row in run.metrics if "reward_mean" in row]
    assert run.status == "done"
    assert [row["step"] for row in steps] == list(range(1, 26))
    # Three sevens are worth 2.7; a random completion is worth about 0.
    assert steps[0]["reward_mean"] < 0.5 < 1.5 < steps[-1]["reward_mean"]
    assert run.evaluation["held_out"]["accuracy"] > run.baseline["held_out"]["accuracy"] + 1
    assert {"reward_std", "signal", "grad_norm", "loss", "tokens", "seconds", "lr", "entropy"} <= steps[0].keys()
    assert steps[0]["ratio_mean"] == pytest.approx(1.0)
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(samples) == 25 * 4
    assert samples[0].keys() >= {"step", "prompt", "completion", "reward"}
    assert run.model_path == run.path / "checkpoints" / "step-000025"
    assert AutoModelForCausalLM.from_pretrained(run.model_path).num_parameters() > 0
    assert "held_out" in (run.path / "report.html").read_text(encoding="utf-8")
    assert rl.evaluate(run.path, is_quiet=True) == run.evaluation
    assert rl.evaluate(run.model_path, is_quiet=True) == run.evaluation
    assert rl.evaluate(tiny_config, is_quiet=True) == run.baseline


def test_the_first_loss_of_a_batch_is_zero_and_the_gradient_is_not(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """With rho = 1 and the mean of rollout means, the loss is minus the mean advantage: 0."""
    run = train(tiny_config, tmp_path / "run", "method.loss=grpo", "trainer.iterations=2")
    rows = [row for row in run.metrics if "reward_mean" in row]
    assert [row["batch"] for row in rows] == [0, 0, 1, 1]
    assert [abs(row["loss"]) < 1e-5 for row in rows] == [True, False, True, False]
    assert [row["ratio_mean"] == pytest.approx(1.0, abs=1e-6) for row in rows] == [True, False, True, False]
    assert all(row["grad_norm"] > 0.01 for row in rows)


def test_shuffled_rewards_teach_nothing(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    overrides = ["trainer.steps=25", "trainer.save_every=25", "trainer.lr=3e-3", "trainer.eval_every=25"]
    real = train(tiny_config, tmp_path / "real", *overrides)
    control = train(tiny_config, tmp_path / "control", *overrides, "trainer.control=shuffled_rewards")
    gain = {
        run.path.name: run.evaluation["train"]["accuracy"] - run.baseline["train"]["accuracy"]
        for run in (real, control)
    }
    assert gain["control"] < gain["real"] / 2


def test_the_control_shuffles_within_what_the_method_compares() -> None:
    """Groups of one cell together, others by themselves; every reward is kept."""
    rewards = {"a": [1.0, 2.0, 3.0, 4.0], "b": [5.0, 6.0, 7.0], "c": [8.0, 9.0]}
    groups = [Group(Prompt(name, "q"), (1,), [], list(row)) for name, row in rewards.items()]
    groups[0].meta["cell"] = groups[2].meta["cell"] = "together"
    trainer = SimpleNamespace(prepared=SimpleNamespace(experiment=SimpleNamespace(config=SimpleNamespace(seed=0))))
    met = set()
    for trainer.windows in range(40):
        OnlineTrainer._shuffle(trainer, groups)  # type: ignore[arg-type]
        assert sorted(groups[1].rewards) == rewards["b"] and len(groups[2].rewards) == 2
        assert sorted(groups[0].rewards + groups[2].rewards) == [1.0, 2.0, 3.0, 4.0, 8.0, 9.0]
        met |= set(groups[2].rewards)
    assert met == {1.0, 2.0, 3.0, 4.0, 8.0, 9.0}


def test_lora_trains_the_adapter_and_evaluates_it(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    overrides = ["model.lora.rank=4", "trainer.steps=15", "trainer.lr=0.05", "trainer.eval_every=15"]
    run = train(tiny_config, tmp_path / "run", *overrides)
    assert run.model_path is not None
    assert (run.model_path / "adapter_model.safetensors").exists()
    assert not (run.model_path / "model.safetensors").exists()
    assert run.evaluation["train"]["accuracy"] > run.baseline["train"]["accuracy"] + 0.5
    assert rl.evaluate(run.path, is_quiet=True) == run.evaluation


def test_one_process_may_train_in_two_precisions(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    runs = [train(tiny_config, tmp_path / kind, f"model.autocast={kind}") for kind in ("none", "bfloat16")]
    losses = [[row["loss"] for row in run.metrics if "loss" in row] for run in runs]
    assert losses[0] != losses[1]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=0.1)


def test_without_signal_nothing_moves(tiny_config: dict[str, Any], tmp_path: Path, tiny_model: Path) -> None:
    tiny_config["rewards"] = [{"name": write_reward(tmp_path, "return [1.0 for c in completions]")}]
    run = train(tiny_config, tmp_path / "run", "trainer.weight_decay=0.1")
    rows = [row for row in run.metrics if "reward_mean" in row]
    assert all(row["skipped"] and row["signal"] == 0 and row["trained_tokens"] == 0 for row in rows)
    assert run.model_path is not None
    before, after = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (tiny_model, run.model_path))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_reward_that_fails_sometimes_is_data(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    body = "if '1+' in prompts[0]: raise ValueError('no opinion')\n    return [float('7' in c) for c in completions]"
    tiny_config["rewards"] = [write_reward(tmp_path, body)]
    run = train(tiny_config, tmp_path / "run")
    assert run.status == "done"
    failed = [row for row in run.metrics if row.get("failed")]
    assert failed and all("no opinion" in row["failure"] for row in failed)
    assert all(("failure" in row) == bool(row["failed"]) for row in run.metrics if "failed" in row)


def test_a_method_may_do_without_rewards_and_nothing_is_then_evaluated(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    """A preference for sevens, from a program beside the config: they are learnt; its row says what was compared."""
    program = "def sevens(prompt, first, second):\n    return 0.5 + (first.count('7') - second.count('7')) / 6\n"
    (tmp_path / "prefer.py").write_text(program, encoding="utf-8")
    tiny_config |= {"method": {"kind": "spo", "preference": f"{tmp_path}/prefer.py:sevens", "queue": 8}, "rewards": []}
    run = train(tiny_config, tmp_path / "run", "trainer.steps=25", "trainer.samples=32")
    assert run.status == "done" and run.evaluation == {} and len(run.metrics) == 25
    assert {"comparisons", "margin", "ties", "intransitive", "queue_size", "completion_kl"} <= run.metrics[-1].keys()
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    sevens = [sum(s["completion"].count("7") for s in samples if s["step"] == step) / 32 for step in (1, 25)]
    assert sevens[0] < 0.7 < 1.5 < sevens[1]
    with pytest.raises(ConfigError, match="nothing to measure"):
        rl.evaluate(run.path)


def test_a_preference_that_is_not_there_is_met_before_training(tiny_config: dict[str, Any]) -> None:
    tiny_config["method"] = {"kind": "spo", "preference": "agents/judge.py:jugde"}
    with pytest.raises(UnknownName, match=r"no function or object 'jugde'\. Did you mean 'judge'"):
        dry_run(tiny_config)
    tiny_config["method"]["preference"] = {"kind": "judge", "llm": "gpt"}
    with pytest.raises(ConfigError, match=r"'gpt' names no model"):
        dry_run(tiny_config)


def test_a_gradient_that_is_not_a_number_stops_before_the_step(
    tiny_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rl.methods.grpo import Grpo

    real = Grpo.loss
    calls: list[int] = []

    def poisoned(self: Grpo, batch: Any) -> Any:
        loss, statistics = real(self, batch)
        calls.append(1)
        return loss * (float("nan") if len(calls) == 3 else 1.0), statistics

    monkeypatch.setattr(Grpo, "loss", poisoned)
    with pytest.raises(NonFinite, match="weights were not changed") as caught:
        train(tiny_config, tmp_path / "run")
    saved = next((tmp_path / "run").glob("nonfinite-step-*"))
    assert str(saved) in str(caught.value)
    assert {p.name for p in saved.iterdir()} == {"groups.json", "tensors.safetensors"}
    assert json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["status"] == "failed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_and_saves(tiny_config: dict[str, Any], tmp_path: Path, number: int, code: int) -> None:
    run = tmp_path / "run"
    body = f"""import os
    if os.path.isdir({str(run)!r}) and not os.path.exists({str(run / "sent")!r}):
        open({str(run / "sent")!r}, "w").close()
        os.kill(os.getpid(), {int(number)})
    return [c.count("7") - 0.1 * len(c) for c in completions]"""
    tiny_config["rewards"] = [write_reward(tmp_path, body)]
    tiny_config["trainer"] |= {"eval_every": 0, "save_every": 100}
    whole = train(tiny_config, tmp_path / "whole")
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped) as caught:
        train(tiny_config, run)
    assert caught.value.exit_code == code
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [p.name for p in checkpoint.steps(run / "checkpoints")] == ["step-000001"]
    assert rl.Run.read(run).status == "stopped"
    assert weights(train(tiny_config, run, resume=True)) == weights(whole)


def test_a_stop_file_ends_the_step_with_75(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    body = f"open({str(run / 'STOP')!r}, 'a').close() if __import__('os').path.isdir({str(run)!r}) else None\n"
    tiny_config["rewards"] = [write_reward(tmp_path, body + "    return [float('7' in c) for c in completions]")]
    with pytest.raises(Stopped) as caught:
        train(tiny_config, run)
    assert caught.value.exit_code == 75
    assert "--resume" in str(caught.value)
    assert not (run / "STOP").exists()


def test_a_stop_while_a_ranking_is_awaited_loses_nothing(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """The batch that was asked about is asked about again: a run that was stopped so ends where another does."""
    run, file = tmp_path / "run", tmp_path / "rankers.py"
    program = (
        "import pathlib\nfrom engine.ranking import ProgramRanker\n\n\nclass Slow(ProgramRanker):\n    asked = 0\n\n"
        "    def poll(self, ticket):\n        self.asked += 1\n        if self.asked > 12:\n"
        f"            pathlib.Path({str(run / 'STOP')!r}).touch()\n            return None\n"
        "        return super().poll(ticket)\n\n\n"
        "def sevens(items, question):\n    return {{one: text.count('7') for one, text in items.items()}}\n\n\n"
        "ranker = {kind}(sevens)\n"
    )
    preference = {"kind": "ranker", "ranker": f"{file}:ranker"}
    tiny_config |= {"method": {"kind": "spo", "preference": preference, "queue": 4}, "rewards": []}
    tiny_config["trainer"] |= {"eval_every": 0, "steps": 6, "save_every": 2}
    file.write_text(program.format(kind="ProgramRanker"), encoding="utf-8")
    whole = train(tiny_config, tmp_path / "whole")
    file.write_text(program.format(kind="Slow"), encoding="utf-8")
    with pytest.raises(Stopped, match="STOP"):
        train(tiny_config, run)  # four questions a batch, so in the fourth
    assert [p.name for p in checkpoint.steps(run / "checkpoints")][-1] == "step-000002"
    file.write_text(program.format(kind="ProgramRanker"), encoding="utf-8")
    assert weights(train(tiny_config, run, resume=True)) == weights(whole)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_learning_rates(schedule: str) -> None:
    config = TrainerConfig.model_validate({"steps": 12, "lr": 0.1, "warmup_steps": 2, "schedule": schedule})
    rates = [learning_rate(config, step) for step in range(12)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    half = {"constant": 0.1, "linear": 0.05, "cosine": 0.05}[schedule]
    assert rates[7] == pytest.approx(half)
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)


def write_reward(folder: Path, body: str) -> str:
    path = folder / "reward.py"
    path.write_text(f"def reward(prompts, completions, completion_ids, **columns):\n    {body}\n", encoding="utf-8")
    return f"{path}:reward"


def weights(run: rl.Run) -> bytes:
    assert run.model_path is not None
    return (run.model_path / "model.safetensors").read_bytes()
