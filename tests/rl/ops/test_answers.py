"""Divergence and greedy tokens of given answers, against plain forward passes and torch's own KL."""

import torch
from transformers import AutoModelForCausalLM

from rl.ops.answers import answer_logits, greedy_matches, logprobs_and_kl
from rl.ops.layout import row_layout
from rl.ops.tokens import groups_logprobs

PAIRS = [((3, 4, 5), (6, 7, 0)), ((5,), (8, 0)), ((9, 4), (3, 3, 3, 0))]


def models(tiny_model):
    first, second = (AutoModelForCausalLM.from_pretrained(tiny_model).eval() for _ in range(2))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(1.3)
    return first, second


def test_the_kl_is_torchs_and_has_a_gradient(tiny_model):
    model, reference = models(tiny_model)
    layout = row_layout(PAIRS)
    with torch.no_grad():
        ref_logits = answer_logits(reference, layout)
    logprobs, kl = logprobs_and_kl(answer_logits(model, layout), ref_logits, layout)
    for row, (prompt, answer) in enumerate(PAIRS):
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            ours, theirs = (m(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (model, reference))
        by_torch = torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        torch.testing.assert_close(kl[row, : len(answer)], by_torch, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            logprobs[row, : len(answer)], ours[range(len(answer)), list(answer)], atol=1e-5, rtol=1e-4
        )
        assert not kl[row, len(answer) :].any() and not logprobs[row, len(answer) :].any()
    (gradient,) = torch.autograd.grad(kl.sum(), model.get_input_embeddings().weight)
    assert bool(gradient.any()) and bool(gradient.isfinite().all())


def test_the_log_probs_are_those_of_the_trees(tiny_model):
    model, _ = models(tiny_model)
    layout = row_layout(PAIRS)
    logits = answer_logits(model, layout)
    logprobs, kl = logprobs_and_kl(logits, logits, layout)
    same = groups_logprobs(model, [p for p, _ in PAIRS], [[a] for _, a in PAIRS])
    torch.testing.assert_close(logprobs, same, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(kl, torch.zeros_like(kl), atol=1e-6, rtol=0)


def test_greedy_matches_are_those_of_plain_decoding_in_any_passes(tiny_model):
    model, _ = models(tiny_model)
    prompt = (3, 4, 5)
    said = list(prompt)
    with torch.no_grad():
        for _ in range(4):
            said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
    spoken = tuple(said[3:])
    wrong = (*spoken[:2], (spoken[2] + 1) % 15, spoken[3])
    pairs = [(prompt, spoken), (prompt, wrong), (prompt, spoken[:1])]
    for limit in (1, 1000):
        found = greedy_matches(model, pairs, max_tokens=limit).tolist()
        assert found[0] == [True] * 4 and found[1][:3] == [True, True, False]
        assert found[2] == [True, False, False, False]
