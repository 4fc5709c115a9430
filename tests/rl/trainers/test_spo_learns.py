"""The reference run of SPO on the embedded model: a preference that goes round in a circle ends mixed.

Facts from outside: what the last policy should be is the fixed point pi ~ pi_ref exp(C pi / beta), solved from the
starting model's own chances; and a scalar score, fitted to comparisons of what that model says, ends at one answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

import rl
from rl.config import load
from rl.ops.preference import exploitability

CONFIG = Path(__file__).parents[3] / "configs" / "spo.yaml"
HANDS = (" rock", " paper", " scissors")
# The last row and column: every other word, which loses to each of the three.
GAME = torch.tensor([[0.5, 0.0, 1.0, 1.0], [1.0, 0.5, 0.0, 1.0], [0.0, 1.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.5]])
SCORE = """
def score(prompts, completions, completion_ids, **columns):
    worth = {"rock": 1.13, "paper": 2.18, "scissors": -0.24}
    return [worth.get(c.strip().lower(), -3.06) for c in completions]
"""


def chances(model: Any, tokenizer: Any) -> torch.Tensor:
    """(4,) the chances of the three hands and of everything else, as the first token after the prompt."""
    prompt = load(CONFIG).source.rows[0]["prompt"]
    with torch.no_grad():
        logits = model.eval()(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
    three = torch.softmax(logits, 0)[[tokenizer.encode(hand)[0] for hand in HANDS]]
    return torch.cat([three, 1 - three.sum(0, keepdim=True)])


def softer_winner(reference: torch.Tensor, beta: float) -> torch.Tensor:
    """The fixed point of pi ~ reference exp(GAME pi / beta), by damped iteration."""
    policy = reference
    for _ in range(5000):
        pull = reference.log() + GAME @ policy / beta
        policy = torch.softmax(0.99 * policy.log() + 0.01 * pull, 0)
    return policy


@pytest.fixture(scope="module")
def start(embedded_model: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(embedded_model, dtype=torch.float32)
    return chances(model, AutoTokenizer.from_pretrained(embedded_model))


def trained(folder: Path, *overrides: str) -> torch.Tensor:
    run = rl.train(CONFIG, overrides, run_dir=folder / "run", is_quiet=True)
    assert run.model_path is not None
    model = AutoPeftModelForCausalLM.from_pretrained(run.model_path, dtype=torch.float32)
    return chances(model, AutoTokenizer.from_pretrained(run.model_path))


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_circle_ends_mixed_near_the_winner_of_the_softer_game(tmp_path: Path, start: torch.Tensor, seed: int) -> None:
    assert start[0] > 0.5 and exploitability(start, GAME) > 0.25
    last = trained(tmp_path, f"seed={seed}")
    assert last[:3].min() >= 0.1
    assert exploitability(last, GAME) <= 0.2
    torch.testing.assert_close(last, softer_winner(start, 0.1), atol=0.15, rtol=0)


@pytest.mark.slow
@pytest.mark.model
def test_without_regularization_the_last_policy_is_one_answer_that_another_beats(tmp_path: Path) -> None:
    """It runs after what beats the start, and once it says nothing else there is nothing to compare."""
    assert exploitability(trained(tmp_path, "method.beta=0"), GAME) >= 0.35


@pytest.mark.slow
@pytest.mark.model
def test_a_scalar_score_ends_at_one_answer(tmp_path: Path) -> None:
    """Bradley-Terry scores of the starting model's own comparisons: it mostly says rock, so paper looks best."""
    (tmp_path / "score.py").write_text(SCORE, encoding="utf-8")
    last = trained(tmp_path, "method={kind: grpo}", f"rewards=[{tmp_path}/score.py:score]")
    assert last[1] >= 0.9
    assert exploitability(last, GAME) >= 0.4


@pytest.mark.slow
@pytest.mark.model
def test_shuffled_win_rates_leave_the_answers_where_they_were(tmp_path: Path, start: torch.Tensor) -> None:
    last = trained(tmp_path, "trainer.control=shuffled_rewards")
    assert (last - start).abs().max() < 0.1
