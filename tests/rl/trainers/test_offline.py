"""The offline loop on a tiny model: it learns, forgets and keeps, measures, and says what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import rl
from engine.cli.main import main
from engine.config import dump_yaml
from engine.errors import Collapsed, ConfigError, DataError, InputError, NonFinite
from rl import checkpoint
from rl.methods.npo import PARTS, Npo


def train(config: dict[str, Any], run: Path, *overrides: str, resume: bool = False) -> rl.Run:
    return rl.train(config, overrides, resume, run_dir=run, is_quiet=True)


def steps_of(run: rl.Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics if "loss" in row]


@pytest.fixture
def taught(offline_config: dict[str, Any], taught_model: Path) -> dict[str, Any]:
    """The config with a model that knows all rows by heart."""
    offline_config["model"]["name"] = str(taught_model)
    return offline_config


def test_what_was_taught_is_forgotten_and_the_rest_is_kept(taught: dict[str, Any], tmp_path: Path) -> None:
    run = train(taught, tmp_path / "run", "trainer.steps=40", "trainer.save_every=40", "trainer.eval_every=10")
    before, after = run.baseline, run.evaluation
    assert before["forget"]["probability"] > 0.9 and before["forget"]["extraction_strength"] > 0.9
    assert before["retain"]["probability"] > 0.9 and before["forget"]["rouge"] > 0.9
    assert after["forget"]["probability"] < 0.2 < 0.8 < after["retain"]["probability"]
    assert after["forget"]["extraction_strength"] < 0.5 < after["retain"]["extraction_strength"]
    assert [row["step"] for row in run.metrics if "eval" in row] == [0, 10, 20, 30, 40]
    assert rl.evaluate(run.path, is_quiet=True) == after
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Extraction strength" in page and "Model utility" in page


def test_the_first_loss_is_two_over_beta_ln_two_and_no_retain_row_is_read(
    offline_config: dict[str, Any], tmp_path: Path
) -> None:
    run = train(offline_config, tmp_path / "run", "method.variant=npo", "method.beta=0.5")
    first, *_, last = steps_of(run)
    assert first["loss"] == pytest.approx(4 * math.log(2), abs=1e-4)
    assert first["forget_weight"] == pytest.approx(1.0, abs=1e-4) and last["forget_weight"] < 1
    assert last["loss"] < first["loss"] and last["forget_nll"] > first["forget_nll"]
    assert not any("retain" in key for row in steps_of(run) for key in row)


def test_a_step_is_that_of_another_program(offline_config: dict[str, Any], tmp_path: Path) -> None:
    """NPO in plain transformers and torch, without padding: the same losses, and the same weights after two steps."""
    overrides = ["method.variant=npo", "trainer.steps=2", "trainer.prompts=4"]
    rows = [json.loads(line) for line in (tmp_path / "forget.jsonl").read_text(encoding="utf-8").splitlines()]
    run = train(offline_config, tmp_path / "run", *overrides)
    name = offline_config["model"]["name"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name).train(), AutoTokenizer.from_pretrained(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)

    def sums() -> torch.Tensor:
        found = []
        for row in rows:
            prompt = tokenizer(row["question"])["input_ids"]
            ids = prompt + tokenizer(" " + row["answer"])["input_ids"] + [tokenizer.eos_token_id]
            labels = torch.tensor([[-100] * len(prompt) + ids[len(prompt) :]])
            tokens = len(ids) - len(prompt)
            found.append(-model(torch.tensor([ids]), labels=labels).loss * tokens)
        return torch.stack(found)

    with torch.no_grad():
        reference = sums()
    losses = []
    for _ in range(2):
        ratio = torch.exp(sums() - reference)  # pi / pi_ref
        loss = (2 / 0.1) * torch.log(1 + ratio**0.1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert [row["loss"] for row in steps_of(run)] == pytest.approx(losses, rel=1e-5)
    trained = AutoModelForCausalLM.from_pretrained(run.model_path).state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(trained[key], value, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", PARTS)
def test_every_variant_trains_in_any_micro_batches(
    offline_config: dict[str, Any], tmp_path: Path, variant: str
) -> None:
    runs = [
        train(
            offline_config, tmp_path / f"{tokens}", f"method.variant={variant}", f"trainer.micro_batch_tokens={tokens}"
        )
        for tokens in (1, 1000)
    ]
    first, second = (steps_of(run) for run in runs)
    for a, b in zip(first, second, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-2)
        assert not a["skipped"]


@pytest.mark.parametrize("lora", [False, True])
def test_the_kl_is_to_the_model_before_training(offline_config: dict[str, Any], tmp_path: Path, lora: bool) -> None:
    """0 at first and above it afterwards, with a frozen copy and with the adapter switched off."""
    overrides = ["method.variant=npo_kl", *(["model.lora.rank=2", "trainer.lr=0.05"] if lora else [])]
    kl = [row["retain_kl"] for row in steps_of(train(offline_config, tmp_path / "run", *overrides))]
    assert kl[0] == pytest.approx(0.0, abs=1e-6) and all(value > 1e-5 for value in kl[1:])


def test_the_reference_is_asked_once(
    offline_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log-probs are in every checkpoint, and a resumed run reads them instead of computing them again."""
    from rl.trainers.offline import OfflineTrainer

    asked: list[int] = []
    real = OfflineTrainer._reference
    monkeypatch.setattr(OfflineTrainer, "_reference", lambda self, pairs: asked.append(len(pairs)) or real(self, pairs))
    overrides = ["method.variant=dpo_idk", "trainer.eval_every=0"]
    run = train(offline_config, tmp_path / "run", *overrides)
    assert asked == [4, 4]
    saved = [checkpoint.read_state(path).tensors for path in checkpoint.steps(run.path / "checkpoints")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in ("known/answers", "known/refusals"))
    train(offline_config, tmp_path / "run", *overrides, "trainer.steps=6", resume=True)
    assert asked == [4, 4]


def test_the_forget_quality_compares_with_a_model_that_never_saw_the_set(
    taught: dict[str, Any], tiny_model: Path
) -> None:
    """Against itself it is 1; the taught model is as far from an untaught one as four rows can tell: 2 / C(8, 4)."""
    same = rl.evaluate(taught, [f"source.retain_model={taught['model']['name']}"], is_quiet=True)
    assert same["all"]["forget_quality"] == 1.0
    other = rl.evaluate(taught, [f"source.retain_model={tiny_model}"], is_quiet=True)
    assert other["all"]["forget_quality"] == pytest.approx(2 / math.comb(8, 4))
    assert "forget_quality" not in rl.evaluate(taught, is_quiet=True)["all"]


def test_a_collapse_ends_the_run_and_leaves_the_checkpoints_before_it(taught: dict[str, Any], tmp_path: Path) -> None:
    overrides = ["method.variant=ga", "method.min_utility=0.5", "trainer.lr=1e-2", "trainer.steps=60"]
    overrides += ["source.holdout={}", "trainer.keep=60"]
    with pytest.raises(Collapsed, match=r"utility fell from 0\.\d+ to .*at step \d+\n.*min_utility=0\.5") as caught:
        train(taught, tmp_path / "run", *overrides)
    assert caught.value.exit_code == 1
    run = rl.Run.read(tmp_path / "run")
    last = [row["step"] for row in run.metrics if "eval" in row][-1]
    assert run.status == "failed"
    assert run.model_path is not None and checkpoint.step_of(run.model_path) == last - 1


def test_a_model_without_any_use_cannot_be_watched_for_a_collapse(
    offline_config: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="model utility is 0 before training"):
        train(offline_config, tmp_path / "run", "method.min_utility=0.5")


def test_a_loss_that_is_not_a_number_stops_before_the_step(
    offline_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Npo.loss

    def poisoned(self: Npo, batch: Any) -> Any:
        loss, statistics = real(self, batch)
        return loss * float("nan"), statistics

    monkeypatch.setattr(Npo, "loss", poisoned)
    with pytest.raises(NonFinite, match="weights were not changed") as caught:
        train(offline_config, tmp_path / "run")
    record = json.loads((Path(str(caught.value.place)) / "groups.json").read_text(encoding="utf-8"))
    assert len(record["rows"]["forget"]) == len(record["rows"]["retain"]) == 3


BAD: dict[str, tuple[list[str], list[str]]] = {
    "an online source": (["source={kind: arithmetic}"], ["override source", "loop offline", "authors, unlearning"]),
    "an online method": (["method={kind: grpo}", "rewards=[length]"], ["source.kind", "arithmetic"]),
    "rewards": (["rewards=[length]"], ["override rewards", "without rollouts"]),
    "a policy on servers": (["policy.engine=vllm"], ["override policy.engine", "policy.engine means nothing"]),
    "several iterations": (["trainer.iterations=2"], ["override trainer.iterations"]),
    "no beta": (["method.beta=0"], ["override method.beta", "greater than 0"]),
    "no retain set": (["source.retain=null"], ["rows to retain, and there are none", "override source.retain"]),
    "no such variant": (["method.variant=npo_r"], ["override method.variant", "Did you mean 'npo_rt'?"]),
    "no such retain model": (["source.retain_model=smollm3-135m"], ["source.retain_model", "smollm3-135m"]),
    "no such file": (["source.forget=absent.jsonl"], ["absent.jsonl", "source"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_message_and_code_2(
    offline_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("npo.yaml").write_text(dump_yaml(offline_config), encoding="utf-8")
    overrides, parts = BAD[case]
    assert main(["rl", "train", "npo.yaml", *overrides]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert "Traceback" not in message and not Path("runs").exists()


def test_rows_in_both_sets_are_listed(offline_config: dict[str, Any], tmp_path: Path) -> None:
    retain = tmp_path / "retain.jsonl"
    retain.write_text(
        retain.read_text(encoding="utf-8") + '{"question": " 11+11= ", "answer": "5"}\n', encoding="utf-8"
    )
    with pytest.raises(DataError) as caught:
        train(offline_config, tmp_path / "run")
    assert "the set to forget and 'retain' have 1 of their questions in common" in str(caught.value)
    assert f"{tmp_path / 'forget.jsonl'}:2 and {retain}:9: 11+11=" in str(caught.value)


def test_an_answer_that_does_not_fit_names_its_row(offline_config: dict[str, Any], tmp_path: Path) -> None:
    with (tmp_path / "forget.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"question": "1+1=", "answer": "2" * 80}) + "\n")
    with pytest.raises(DataError, match=r"forget\.jsonl:5: question and answer have 86 tokens, and the model takes 64"):
        train(offline_config, tmp_path / "run")


def test_the_command_line_shows_before_and_after(
    offline_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("npo.yaml").write_text(dump_yaml(offline_config), encoding="utf-8")
    assert main(["rl", "train", "npo.yaml", "--dry-run"]) == 0
    assert "4 steps of 3 rows of forget and retain" in capsys.readouterr().out
    assert main(["rl", "train", "npo.yaml"]) == 0
    printed = capsys.readouterr()
    assert "extraction strength" in printed.out and "\u2192" in printed.out and "model utility" in printed.out
    assert "what was measured:" in printed.err and "weight" in printed.err
    with pytest.raises(ConfigError):
        rl.train("npo.yaml", ["rewards=[length]"])
