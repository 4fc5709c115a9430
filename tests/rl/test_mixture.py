"""Facts of a mixture of checkpoints: each request from one member, drawn by its seed with the chances asked for."""

import collections
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import rl
from engine.errors import CheckpointError, DataError, InputError
from rl import checkpoint
from rl.mixture import Mixture, average, mixture_of
from rl.policies.base import Policy
from rl.policies.local import LocalPolicy
from rl.trainers.model import load_tokenizer
from rl.types import Request, Rollout


class Named(Policy):
    """Says which weights it has."""

    def sync(self, state, version):
        self.version, self.text = version, state["text"]

    def generate(self, requests):
        return [[Rollout((1,), (0.0,), self.text, "stop", self.version)] * r.n for r in requests]


def request(seed, n=1):
    return Request((5, 6), n=n, max_tokens=3, seed=seed)


def test_members_are_drawn_with_their_chances_and_a_seed_fixes_its_own():
    mixture = Mixture(Named(), {10: {"text": "a"}, 20: {"text": "b"}, 30: {"text": "c"}}, [2.0, 0.0, 1.0])
    asked = [request(seed, n=2) for seed in range(3000)]
    rows = mixture.generate(asked)
    shares = collections.Counter(row[0].text for row in rows)
    assert shares["b"] == 0 and shares["a"] / 3000 == pytest.approx(2 / 3, abs=0.03)
    assert all(row[0] == row[1] and {"a": 10, "c": 30}[row[0].text] == row[0].weight_version for row in rows)
    assert mixture.generate(asked[7:9][::-1]) == rows[7:9][::-1]
    equal = Mixture(Named(), {1: {"text": "a"}, 2: {"text": "b"}})
    assert equal.chances == [0.5, 0.5]


@pytest.mark.parametrize("wrong", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("inf")], [1.0, 1.0, 1.0]])
def test_chances_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match="2 numbers"):
        Mixture(Named(), {1: {}, 2: {}}, wrong)


def test_a_mixture_takes_up_no_weights():
    with pytest.raises(InputError, match="takes up no weights"):
        Mixture(Named(), {1: {}}).sync({}, 2)
    with pytest.raises(InputError):
        Mixture(Named(), {})


@pytest.fixture(params=["whole", "lora"])
def run(request, tiny_config, tmp_path):
    """A run with checkpoints after steps 2, 4 and 6, at a rate that moves the weights far."""
    overrides = ["trainer.steps=6", "trainer.save_every=2", "trainer.keep=3", "trainer.eval_every=0", "trainer.lr=0.05"]
    lora = ["model.lora.rank=2"] if request.param == "lora" else []
    return rl.train(tiny_config, overrides + lora, run_dir=tmp_path / "run", is_quiet=True)


def test_a_runs_checkpoints_are_served_as_a_mixture_of_what_each_says(run):
    mixture = mixture_of(run.path)
    assert [*mixture.members] == [2, 4, 6]
    asked = [request(seed, n=2) for seed in range(12)]
    rows = mixture.generate(asked)
    assert {row[0].weight_version for row in rows} == {2, 4, 6}
    config = json.loads((run.model_path / "state" / "record.json").read_text())["config"]["model"]
    for step in (2, 4, 6):
        path = run.path / "checkpoints" / f"step-{step:06d}"
        model = AutoModelForCausalLM.from_pretrained(config["name"] if config["lora"] else path)
        if config["lora"]:
            model.load_adapter(str(path))
        alone = LocalPolicy(model, load_tokenizer(path), version=step)
        for one, row in zip(asked, rows, strict=True):
            if row[0].weight_version == step:
                [wanted] = alone.generate([one])
                assert [r.completion_ids for r in row] == [r.completion_ids for r in wanted]
                assert row[0].logprobs == pytest.approx(wanted[0].logprobs, abs=1e-4)
    assert len({row[0].logprobs for row in rows}) > 3


def test_averaged_weights_are_the_mean_and_load(run, tmp_path):
    first, _, last = found = checkpoint.steps(run.path / "checkpoints")
    folder = average([first, last], tmp_path / "mean", [1, 3])
    [file] = folder.glob("*.safetensors")
    tables = [load_file(path / file.name) for path in (first, last, folder)]
    assert any(not torch.equal(tables[0][name], tables[1][name]) for name in tables[0])
    for name, mean in tables[2].items():
        torch.testing.assert_close(mean, 0.25 * tables[0][name] + 0.75 * tables[1][name])
    assert not (folder / "state").exists() and not (folder / "manifest.json").exists()
    if file.name == "model.safetensors":
        AutoModelForCausalLM.from_pretrained(folder)
    same = load_file(average(found[-1:], tmp_path / "same") / file.name)
    assert all(torch.equal(same[name], tables[1][name]) for name in same)
    with pytest.raises(InputError, match="there already"):
        average(found, folder)


def test_damaged_and_missing_checkpoints_are_refused(run, tmp_path):
    with pytest.raises(DataError, match="no checkpoint"):
        mixture_of(tmp_path)
    (
        run.model_path / "config.json"
        if (run.model_path / "config.json").exists()
        else run.model_path / "adapter_config.json"
    ).write_text("{}")
    with pytest.raises(CheckpointError):
        mixture_of(run.path)
    with pytest.raises(CheckpointError):
        average([run.model_path], tmp_path / "x")
