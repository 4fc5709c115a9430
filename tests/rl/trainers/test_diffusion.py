"""The diffusion loop on tiny networks of classes and of texts: it trains, tries out, and says what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

import rl
from engine.cli.main import main
from engine.config import dump_yaml
from engine.errors import DataError, EnvironmentMissing, InputError, NonFinite
from rl import checkpoint
from rl.guidance import NegativeGuided, guide, negative_network
from rl.methods.self_npo import SelfNpo
from rl.trainers.denoiser import load_network
from tests.rl.trainers.pipelines import of_classes, of_texts

ARMS = ["positive", "cfg", "negative_guided", "negative_alone", "random_negative", "same_negative"]


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture
def config(classes: Path) -> dict[str, Any]:
    return {
        "model": {"name": str(classes), "autocast": "none"},
        "method": {"kind": "self_npo", "grid": 4, "truncated": 2, "latents": 12},
        "source": {"kind": "digits", "samples": 20},
        "trainer": {"steps": 3, "prompts": 8, "lr": 1e-3, "save_every": 1, "keep": 3, "eval_every": 3},
    }


@pytest.fixture
def text_config(texts: Path, config: dict[str, Any]) -> dict[str, Any]:
    rows = [{"prompt": "a b"}, {"prompt": "c d e"}]
    model = {"name": str(texts), "autocast": "none", "lora": {"rank": 2}}
    return config | {"model": model, "source": {"kind": "rows", "rows": rows}}


def train(config: dict[str, Any], run: Path, *overrides: str, resume: bool = False) -> rl.Run:
    return rl.train(config, overrides, resume, run_dir=run, is_quiet=True)


def steps_of(run: rl.Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics if "loss" in row]


def test_a_run_has_a_table_a_picture_and_a_network_that_diffusers_loads(config: dict[str, Any], tmp_path: Path) -> None:
    run = train(config, tmp_path / "run")
    table = run.evaluation
    assert list(table) == ["real_held_out", *ARMS]
    assert table["real_held_out"]["accuracy"] > 0.95 and table["real_held_out"]["frechet"] < 60
    for arm in ARMS:
        assert 0 <= table[arm]["accuracy"] <= 1 and table[arm]["frechet"] > 0 and table[arm]["n"] == 20
    assert table["same_negative"] == table["positive"] and table["positive"]["distance"] == 0
    assert all(table[arm]["distance"] > 0 for arm in ("cfg", "negative_guided", "negative_alone", "random_negative"))
    assert all(run.baseline[arm]["distance"] == 0 for arm in ("negative_guided", "negative_alone", "random_negative"))
    with Image.open(run.path / "pictures" / "step-000003.png") as picture:
        assert picture.size == (720, 288)  # ten columns and four rows of 8x8 pixels eight times as large, with borders
    assert run.model_path is not None
    assert isinstance(diffusers.UNet2DModel.from_pretrained(run.model_path / "unet"), diffusers.UNet2DModel)
    assert rl.evaluate(run.path, is_quiet=True) == table
    assert "Frechet" in (run.path / "report.html").read_text(encoding="utf-8")


def test_the_weights_and_their_average_are_those_of_another_program(config: dict[str, Any], tmp_path: Path) -> None:
    """AdamW in plain torch on the gradients that the run's own loss has; the average from their history."""
    run = train(config, tmp_path / "run", "method.average=0.5", "trainer.eval_every=0")
    saved = [checkpoint.read_state(path) for path in checkpoint.steps(run.path / "checkpoints")]
    history = [load_network(path).state_dict() for path in checkpoint.steps(run.path / "checkpoints")]
    average = load_network(Path(config["model"]["name"])).state_dict()
    for state, weights in zip(saved, history, strict=True):
        average = {name: 0.5 * value + 0.5 * weights[name] for name, value in average.items()}
        for name, value in average.items():
            torch.testing.assert_close(state.tensors[f"average/{name}"], value)
    assert all(row["grad_norm"] > 0 and not row["skipped"] for row in steps_of(run))


def test_start_states_are_the_start_models_own_samples(config: dict[str, Any], tmp_path: Path) -> None:
    """By diffusers' own loop from the same noise."""
    from rl.trainers.seeds import seeded_generator

    run = train(config, tmp_path / "run", "trainer.eval_every=0")
    states = checkpoint.read_state(run.path / "checkpoints" / "step-000003").tensors["states"]
    x = torch.randn(12, 1, 8, 8, generator=seeded_generator(0, "states"))
    scheduler = diffusers.DDIMScheduler.from_pretrained(config["model"]["name"], subfolder="scheduler")
    scheduler.set_timesteps(4)
    network, labels = load_network(Path(config["model"]["name"])), _labels(12)
    with torch.no_grad():
        for time in scheduler.timesteps:
            x = scheduler.step(network(x, time, class_labels=labels).sample, time, x).prev_sample
    torch.testing.assert_close(states, x, rtol=1e-3, atol=1e-3)


def _labels(n: int) -> torch.Tensor:
    """Of the first digits that an evaluation of the training digits shows."""
    source = rl.sources.load("digits")
    prompts = source(source.Config(kind="digits")).evaluation()["train"]
    return torch.tensor([prompt.columns["label"] for prompt in prompts[:n]])


@pytest.mark.parametrize("start", ["self", "data"])
def test_a_text_model_trains_adapters_and_a_pipeline_is_guided_by_them(
    text_config: dict[str, Any], tmp_path: Path, start: str
) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    for row in text_config["source"]["rows"]:
        row["image"] = str(tmp_path / "red.png")
    run = train(text_config, tmp_path / "run", f"method.start={start}", "trainer.lr=0.05")
    assert run.evaluation["same_negative"]["distance"] == 0 < run.evaluation["negative_guided"]["distance"]
    assert run.model_path is not None and (run.model_path / "adapter_model.safetensors").exists()
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(text_config["model"]["name"])
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline.unet
    guide(pipeline, run.path)

    def image(scale: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        made = pipeline("a b", num_inference_steps=3, guidance_scale=scale, generator=generator, output_type="latent")
        return made.images

    assert isinstance(pipeline.unet, NegativeGuided)
    negative = image(2.0)
    pipeline.unet = NegativeGuided(own, own)
    same = image(2.0)
    pipeline.unet = own
    torch.testing.assert_close(same, image(2.0), rtol=1e-4, atol=1e-4)  # both halves the same: ordinary guidance
    assert not torch.allclose(negative, same, atol=1e-3)


def test_what_a_negative_is_blended_of(config: dict[str, Any], tmp_path: Path) -> None:
    """theta + alpha eta + beta delta, of a positive that was tuned to something else."""
    tuned = of_classes(tmp_path / "tuned", seed=1)
    run = train(config, tmp_path / "run", f"method.positive={tuned}", "method.alpha=0.5")
    start, trained = load_network(Path(config["model"]["name"])), load_network(run.model_path or Path())
    for alpha, beta in ((0.5, 1.0), (1.0, 0.0), (0.0, 1.0)):
        positive, negative = negative_network(run.path, alpha=alpha, beta=beta)
        for name, value in negative.state_dict().items():
            theta, eta = start.state_dict()[name], positive.state_dict()[name] - start.state_dict()[name]
            expected = theta + alpha * eta + beta * (trained.state_dict()[name] - theta)
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert run.evaluation["same_negative"] == run.evaluation["positive"]


def test_two_texts_and_two_halves() -> None:
    with pytest.raises(DataError, match="3 rows has no two halves"):
        NegativeGuided(torch.nn.Identity(), torch.nn.Identity())(torch.zeros(3, 1), 0, torch.zeros(3, 1))


def test_another_process_is_refused_by_name(
    config: dict[str, Any], text_config: dict[str, Any], tmp_path: Path
) -> None:
    other = of_classes(tmp_path / "other", prediction_type="v_prediction")
    with pytest.raises(InputError, match=r"scheduler.prediction_type is 'v_prediction' .* and 'epsilon'") as caught:
        train(config, tmp_path / "run", f"method.positive={other}")
    assert "method.positive" in str(caught.value) and caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"scheduler.beta_start is 0.0001 .* and 0.00085"):
        train(text_config, tmp_path / "run", f"method.positive={config['model']['name']}")
    run = train(text_config, tmp_path / "run", "trainer.steps=1", "trainer.eval_every=0")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(text_config["model"]["name"])
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, beta_end=0.02)
    with pytest.raises(InputError, match=r"scheduler.beta_end is 0.02 in 'the pipeline'"):
        guide(pipeline, run.path)


def test_a_loss_that_is_not_a_number_stops_before_the_step(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SelfNpo.loss
    monkeypatch.setattr(SelfNpo, "loss", lambda self, batch: (real(self, batch)[0] * float("nan"), {}))
    with pytest.raises(NonFinite, match="weights were not changed") as caught:
        train(config, tmp_path / "run")
    assert len(json.loads((Path(str(caught.value.place)) / "groups.json").read_text(encoding="utf-8"))["rows"]) == 8


BAD: dict[str, tuple[list[str], list[str]]] = {
    "an online source": (["source={kind: triplets}"], ["override source", "loop online", "digits"]),
    "rewards": (["rewards=[length]"], ["override rewards", "without rollouts"]),
    "completions": (["policy.max_tokens=3"], ["policy.max_tokens means nothing"]),
    "too fine a grid": (["method.grid=1001"], ["method.grid", "2 to 1000"]),
    "no such start": (["method.start=nothing"], ["method.start", "data"]),
    "a model of texts": (["model.name=agents"], ["no diffusion model", "unet/config.json"]),
    "no labels": (["source={kind: rows, rows: [{prompt: a}]}"], ["no column 'label'", "digits"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_message(
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("agents").mkdir()
    Path("self_npo.yaml").write_text(dump_yaml(config), encoding="utf-8")
    overrides, parts = BAD[case]
    assert main(["rl", "train", "self_npo.yaml", *overrides]) in (2, 3)
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert "Traceback" not in message


def test_noise_alone_at_the_end_is_no_schedule_for_a_network_of_noise(config: dict[str, Any], tmp_path: Path) -> None:
    zero = of_classes(tmp_path / "zero", rescale_betas_zero_snr=True)
    with pytest.raises(InputError, match="noise alone"):
        train(config, tmp_path / "run", f"model.name={zero}")


def test_a_missing_package_names_its_extra(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(tmp_path / "self_npo.yaml").write_text(dump_yaml(config), encoding="utf-8")
    for name in [name for name in sys.modules if name.startswith(("rl.trainers.d", "rl.trainers.ne"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert main(["rl", "train", str(tmp_path / "self_npo.yaml")]) == EnvironmentMissing.exit_code
    assert "pip install 'trace-engine[diffusion]'" in capsys.readouterr().err


def test_the_command_line_shows_the_table(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("self_npo.yaml").write_text(dump_yaml(config), encoding="utf-8")
    assert main(["validate", "self_npo.yaml"]) == 0
    assert "3 steps of 8 rows" in capsys.readouterr().out
    assert main(["rl", "train", "self_npo.yaml"]) == 0
    printed = capsys.readouterr()
    assert "negative_guided" in printed.out and "frechet" in printed.out and "what was measured:" in printed.err
