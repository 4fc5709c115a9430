"""The in-process policy against transformers' generate, teacher forcing and its own contract."""

import random
from dataclasses import replace

import numpy
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare

from engine.errors import InputError, NonFinite
from rl.policies.local import LocalPolicy, cut_at_stop
from rl.types import Request

PROMPTS = [(5, 6, 7), (9, 8, 7, 6, 5, 4, 3), (1,), (5, 6, 7, 8, 9)]
BEGINNING = tuple(range(20))
SHARED = [(*BEGINNING, *end) for end in ((40, 41), (50,), (60, 61, 62, 63))]


def _greedy(model, prompt, tokens):
    model.eval()
    ids = torch.tensor([prompt])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    model.train()
    return tuple(output[0, len(prompt) :].tolist())


def _logprobs(model, prompt, completion, temperature=1.0):
    """Log-probs of the completion by one forward over prompt and completion."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    model.train()
    rows = (logits / temperature).log_softmax(-1)
    return rows[range(len(completion)), list(completion)].tolist()


@pytest.mark.parametrize("prompts", [PROMPTS, SHARED])
def test_greedy_is_that_of_transformers(model, tokenizer, prompts):
    requests = [Request(p, 2, 12 + i, seed=i, temperature=0) for i, p in enumerate(prompts)]
    groups = LocalPolicy(model, tokenizer).generate(requests)
    for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
        assert [r.completion_ids for r in group] == [_greedy(model, prompt, 12 + i)] * 2


@pytest.mark.parametrize("prompts", [PROMPTS, SHARED])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_teacher_forced_forward(model, tokenizer, prompts, temperature):
    requests = [Request(p, 4, 20, seed=i, temperature=temperature) for i, p in enumerate(prompts)]
    for prompt, group in zip(prompts, LocalPolicy(model, tokenizer).generate(requests), strict=True):
        for rollout in group:
            expected = _logprobs(model, prompt, rollout.completion_ids, temperature)
            assert rollout.logprobs == pytest.approx(expected, abs=1e-4)


def test_first_tokens_are_distributed_as_the_softmax(model, tokenizer):
    draws = 4000
    [group] = LocalPolicy(model, tokenizer, batch_rows=1000).generate([Request(PROMPTS[0], draws, 1, seed=11)])
    model.eval()
    with torch.no_grad():
        expected = model(torch.tensor([PROMPTS[0]])).logits[0, -1].double().softmax(-1)
    counts = torch.bincount(torch.tensor([r.completion_ids[0] for r in group]), minlength=257)
    common = expected * draws >= 5
    observed = [*counts[common].tolist(), counts[~common].sum().item()]
    wanted = [*(expected[common] * draws).tolist(), (expected[~common].sum() * draws).item()]
    assert len(observed) > 10
    assert chisquare(observed, wanted).pvalue > 0.01


def test_a_completion_depends_on_nothing_but_its_request_and_index(model, tokenizer):
    settings = [{}, {"top_p": 0.8}, {"temperature": 0.0}, {"top_k": 4, "stop": ("e",)}]
    requests = [Request(p, 3, 16, seed=100 + i, **s) for i, (p, s) in enumerate(zip(PROMPTS, settings, strict=True))]
    together = LocalPolicy(model, tokenizer).generate(requests)
    alone = [LocalPolicy(model, tokenizer).generate([r])[0] for r in requests]
    small = LocalPolicy(model, tokenizer, batch_rows=2, batch_tokens=60).generate(requests[::-1])[::-1]
    ids = [[r.completion_ids for r in group] for group in together]
    assert ids == [[r.completion_ids for r in group] for group in alone]
    assert ids == [[r.completion_ids for r in group] for group in small]
    more = LocalPolicy(model, tokenizer).generate([Request(PROMPTS[0], 5, 16, seed=100)])
    assert [r.completion_ids for r in more[0][:3]] == ids[0]
    assert len({r.completion_ids for r in more[0]}) == 5


def test_several_models_are_asked_one_after_the_other(model, tokenizer):
    """The model as it is when it is taken, with numbers that go on."""
    request, table = Request(PROMPTS[0], 2, 8, seed=3), next(model.parameters())
    policy = LocalPolicy(model, tokenizer)

    def models():
        for sign in (1.0, -1.0):
            with torch.no_grad():
                table.mul_(sign)
            yield model
            with torch.no_grad():
                table.mul_(sign)

    [one], [other] = policy.generate_beside([request], models(), 5)
    assert [rollout.weight_version for rollout in (*one, *other)] == [5, 5, 6, 6]
    assert one == [replace(rollout, weight_version=5) for rollout in policy.generate([request])[0]]
    assert [r.completion_ids for r in one] != [r.completion_ids for r in other]


def test_the_global_random_state_is_untouched(model, tokenizer):
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    LocalPolicy(model, tokenizer).generate([Request(PROMPTS[0], 4, 8, seed=0)])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), numpy.random.get_state()[1].tolist())


def test_modes_and_gradients_are_as_before(model, tokenizer):
    model.model.layers[1].eval()
    modes = [m.training for m in model.modules()]
    policy = LocalPolicy(model, tokenizer, autocast="bfloat16")
    policy.generate([Request(PROMPTS[0], 2, 4, seed=0)])
    assert [m.training for m in model.modules()] == modes
    # The weights that autocast cast without gradient must not serve the training forward.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        policy.generate([Request(PROMPTS[0], 2, 4, seed=0)])
        model(torch.tensor([PROMPTS[0]])).logits.float().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_completions_end_with_the_end_token_or_at_the_limit(model, tokenizer):
    [group] = LocalPolicy(model, tokenizer).generate([Request(PROMPTS[0], 200, 30, seed=5, temperature=2.0)])
    assert {r.finish_reason for r in group} == {"stop", "length"}
    for rollout in group:
        assert 256 not in rollout.completion_ids[:-1]
        assert (rollout.completion_ids[-1] == 256) == (rollout.finish_reason == "stop")
        assert len(rollout.completion_ids) == len(rollout.logprobs) <= 30
        assert len(rollout.completion_ids) == 30 or rollout.finish_reason == "stop"
        assert rollout.text == tokenizer.decode([i for i in rollout.completion_ids if i != 256])


def test_stop_strings_cut_the_text_and_keep_the_token_that_completed_them(model, tokenizer):
    free = LocalPolicy(model, tokenizer).generate([Request(PROMPTS[0], 40, 40, seed=2)])[0]
    # Two-byte strings that do occur, so that the stop spans tokens.
    stops = tuple(r.text[6:8] for r in free[:5] if r.text[6:8].isprintable() and len(r.text) > 8)
    stops = tuple(s for s in stops if s.isascii() and len(s) == 2)
    assert stops
    stopped = LocalPolicy(model, tokenizer).generate([Request(PROMPTS[0], 40, 40, seed=2, stop=stops)])[0]
    assert any(a.completion_ids != b.completion_ids for a, b in zip(free, stopped, strict=True))
    for a, b in zip(free, stopped, strict=True):
        ends = [n for n in range(1, len(a.completion_ids) + 1) if _has(tokenizer, a.completion_ids[:n], stops)]
        length = ends[0] if ends else len(a.completion_ids)
        assert b.completion_ids == a.completion_ids[:length]
        assert b.logprobs == pytest.approx(a.logprobs[:length], abs=1e-5)
        assert b.text == cut_at_stop(a.text, stops)
        assert b.finish_reason == ("stop" if ends else a.finish_reason)


def _has(tokenizer, ids, stops):
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return any(stop in text for stop in stops)


def test_the_text_is_cut_before_the_first_of_several_stops():
    assert cut_at_stop("5\nnext;", (";", "\n")) == "5"
    assert cut_at_stop("plain", ("\n",)) == "plain"


def test_a_request_that_cannot_be_served_is_a_rollout_and_not_a_crash(model, tokenizer):
    long, empty, fine = tuple([7] * 96), (), (7,) * 94
    groups = LocalPolicy(model, tokenizer, version=4).generate([Request(p, 2, 8, seed=0) for p in (long, empty, fine)])
    assert [[r.finish_reason for r in group] for group in groups[:2]] == [["error"] * 2] * 2
    assert groups[0][0].error == "the prompt has 96 tokens; the model's context is 96"
    assert groups[1][0].error == "the prompt has no tokens"
    assert [len(r.completion_ids) for r in groups[2]] == [2, 2]
    assert {r.weight_version for group in groups for r in group} == {4}
    assert LocalPolicy(model, tokenizer).generate([]) == []


@pytest.mark.parametrize(
    "setting",
    [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"min_p": 1.0}, {"stop": ("",)}, {"max_tokens": 0}],
)
def test_settings_that_mean_nothing_are_refused(model, tokenizer, setting):
    with pytest.raises(InputError, match=f"policy.{next(iter(setting))} is"):
        LocalPolicy(model, tokenizer).generate(
            [Request(**{"prompt_ids": (1,), "n": 1, "max_tokens": 1, "seed": 0} | setting)]
        )


def test_weights_that_are_not_numbers_stop_the_run(model, tokenizer):
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(NonFinite):
        LocalPolicy(model, tokenizer).generate([Request((1,), 1, 1, seed=0)])
    assert model.training


def test_adapters_are_sampled_with(model, tokenizer):
    torch.manual_seed(1)
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5, init_lora_weights=False)
    )
    request = Request(PROMPTS[1], 2, 10, seed=0)
    [group] = LocalPolicy(adapted, tokenizer).generate([request])
    for rollout in group:
        assert rollout.logprobs == pytest.approx(_logprobs(adapted, PROMPTS[1], rollout.completion_ids), abs=1e-4)
    with adapted.disable_adapter():
        [plain] = LocalPolicy(adapted, tokenizer).generate([request])
    assert plain[0].logprobs != pytest.approx(group[0].logprobs, abs=1e-4)


def test_sync_numbers_the_live_weights_and_refuses_another_model(model, tokenizer):
    policy = LocalPolicy(model, tokenizer)
    policy.sync(model, 7)
    assert policy.generate([Request((1,), 1, 1, seed=0)])[0][0].weight_version == 7
    with pytest.raises(InputError, match="another model"):
        policy.sync(torch.nn.Linear(1, 1), 8)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    policy.sync(state, 8)
    assert policy.version == 8
    assert not model.lm_head.weight.any()


def test_a_model_that_cannot_continue_from_a_cache_is_refused(tokenizer):
    with pytest.raises(InputError, match="Linear cannot be sampled from"):
        LocalPolicy(torch.nn.Linear(1, 1), tokenizer)
    with pytest.raises(InputError, match="autocast is 'float8'"):
        LocalPolicy.__init__(LocalPolicy.__new__(LocalPolicy), _Forward(), tokenizer, autocast="float8")


class _Forward(torch.nn.Module):
    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache, logits_to_keep): ...
