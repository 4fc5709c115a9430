"""Steering: facts of the hook, and the two modes against recomputation without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from engine.budget import Budget, Ledger
from engine.errors import InputError
from engine.llm import CachedLLM, LocalLLM, OpenAILLM, ScriptedLLM
from engine.llm.residual import added, decoder_layer, offset_of, pooled
from engine.llm.steering import Steering, read_steering
from engine.metering import MeteredLLM

ASK = [{"role": "user", "content": "Name a colour."}]
PROMPT = list(b"Name a colour.\n")
STEERING = {"positive": ["warm red", "orange"], "negative": ["cold blue"], "depth": 0.5, "alpha": 2.0}
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 12}},
    "required": ["word"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llm(byte_model: Path) -> LocalLLM:
    return LocalLLM(byte_model, max_tokens=16)


@pytest.fixture(scope="module")
def model(byte_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(byte_model).eval()


def by_hand(model: Any) -> tuple[torch.nn.Module, torch.Tensor]:
    """The layer and the offset of STEERING, from the model's own hidden states; texts one by one."""
    means, norms = [], []
    for text in (*STEERING["positive"], *STEERING["negative"]):
        with torch.no_grad():
            states = model(torch.tensor([list(text.encode())]), output_hidden_states=True).hidden_states
        own = states[3][0, 1:]  # hidden_states[0] is the embeddings': layer int(.5 * 4) = 2 gives hidden_states[3]
        means.append(own.mean(0))
        norms.append(own.norm(dim=-1))
    direction = (means[0] + means[1]) / 2 - means[2]
    return model.model.layers[2], 2.0 * torch.cat(norms).mean() * direction / direction.norm()


def recomputed(model: Any, count: int, start_of: Any) -> str:
    """Greedy text without a cache, the positions from start_of(length) on steered in every forward."""
    layer, offset = by_hand(model)
    ids = list(PROMPT)
    for _ in range(count):
        with torch.no_grad(), added(layer, offset, start=start_of(len(ids))):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return bytes(i for i in ids[len(PROMPT) :]).decode(errors="replace")


def greedy(llm: LocalLLM, **options: Any) -> str:
    return llm.complete(ASK, temperature=0, steering={**STEERING, **options}).text


def test_the_offset_is_that_of_the_formula(model: Any) -> None:
    layer, offset = by_hand(model)
    assert decoder_layer(model, 0.5) is layer
    found = offset_of(model, lambda text: list(text.encode()), Steering(**{**STEERING, "alpha": 2.0}))
    assert torch.allclose(found, offset, rtol=1e-4, atol=1e-5)


def test_pooling_leaves_out_the_first_token_and_the_padding(model: Any) -> None:
    layer = decoder_layer(model, 0.5)
    rows = [list(b"short"), list(b"a text that is much longer")]
    together, _ = pooled(model, layer, rows)
    alone = torch.cat([pooled(model, layer, [row])[0] for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)


def test_exact_equals_a_recomputation_in_which_only_the_last_position_is_steered(llm: LocalLLM, model: Any) -> None:
    exact = recomputed(model, 16, lambda length: -1)
    assert greedy(llm, mode="exact") == exact
    assert greedy(llm, mode="sticky") != exact and llm.complete(ASK, temperature=0).text != exact


def test_sticky_equals_a_recomputation_in_which_all_from_the_prompt_s_last_on_are(llm: LocalLLM, model: Any) -> None:
    sticky = recomputed(model, 16, lambda length: len(PROMPT) - 1)
    assert greedy(llm, mode="sticky") == sticky
    assert llm.complete(ASK, temperature=0).text != sticky


@pytest.mark.parametrize("mode", ["exact", "sticky"])
def test_rows_that_leave_the_batch_do_not_disturb_the_others(llm: LocalLLM, mode: str) -> None:
    steering = {**STEERING, "mode": mode}
    many = llm.complete(ASK, n=6, seed=3, stop=["e", "a"], max_tokens=30, steering=steering)
    assert len({len(text) for text in many.texts}) > 2
    for n in range(1, 6):
        assert llm.complete(ASK, n=n, seed=3, stop=["e", "a"], max_tokens=30, steering=steering).texts == many.texts[:n]


@pytest.mark.parametrize("mode", ["exact", "sticky"])
def test_alpha_zero_changes_no_bit(llm: LocalLLM, mode: str) -> None:
    plain = llm.complete(ASK, n=4, seed=1)
    assert llm.complete(ASK, n=4, seed=1, steering={**STEERING, "alpha": 0, "mode": mode}).texts == plain.texts
    assert llm.complete(ASK, n=4, seed=1, steering={**STEERING, "mode": mode}).texts != plain.texts


def test_the_opposite_texts_give_the_opposite_offset(model: Any) -> None:
    def offset(**options: Any) -> torch.Tensor:
        return offset_of(model, lambda text: list(text.encode()), Steering(**{**STEERING, **options}))

    swapped = offset(positive=STEERING["negative"], negative=STEERING["positive"])
    assert torch.allclose(swapped, -offset(), atol=1e-5)
    assert torch.allclose(swapped, offset(alpha=-2.0), atol=1e-5)


def test_the_hook_is_there_once_while_it_samples_and_gone_after_it(llm: LocalLLM) -> None:
    layer, seen = decoder_layer(llm.model, 0.5), []
    spy = llm.model.register_forward_pre_hook(lambda module, args: seen.append(len(layer._forward_hooks)))
    llm.complete(ASK, n=2, seed=0, steering=STEERING)
    spy.remove()
    assert set(seen[1:]) == {1}  # the first forward reads the texts; it has the one hook that reads
    assert not layer._forward_hooks


def test_the_offset_is_added_exactly_once_a_forward(model: Any) -> None:
    layer, caught = decoder_layer(model, 0.5), []
    offset = torch.randn(32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        plain = model(ids, output_hidden_states=True).hidden_states[3]
        with added(layer, offset):
            spy = layer.register_forward_hook(lambda module, inputs, output: caught.append(output))
            model(ids)
            spy.remove()
    assert len(caught) == 1
    assert torch.equal(caught[0][:, :-1], plain[:, :-1])
    assert torch.allclose(caught[0][:, -1] - plain[:, -1], offset, atol=1e-5)


def test_the_hook_is_removed_on_error(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = decoder_layer(llm.model, 0.5)
    plain = llm.complete(ASK, seed=2).text

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="on purpose"):
        patch.setattr("engine.llm.local._FreeRow.next", broken)
        llm.complete(ASK, seed=2, steering=STEERING)
    assert not layer._forward_hooks
    assert llm.complete(ASK, seed=2).text == plain


def test_rows_padded_on_the_left_are_steered_at_their_last_token(model: Any) -> None:
    layer, offset = by_hand(model)
    rows = [list(b"ab"), list(b"a longer row of bytes")]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    with torch.no_grad(), added(layer, offset):
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        together = model(ids, attention_mask=mask, position_ids=places).logits[:, -1]
        alone = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])
    assert torch.allclose(together, alone, atol=1e-4)


def test_an_offset_a_row_steers_some_rows_and_not_others(model: Any) -> None:
    layer, offset = by_hand(model)
    ids = torch.tensor([PROMPT, PROMPT])
    with torch.no_grad():
        plain = model(ids).logits
        with added(layer, torch.stack([torch.zeros_like(offset), offset])):
            mixed = model(ids).logits
    assert torch.equal(mixed[0], plain[0]) and not torch.allclose(mixed[1, -1], plain[1, -1], atol=0.1)


def test_a_guided_answer_can_be_steered(llm: LocalLLM) -> None:
    def words(**sampling: Any) -> tuple[Any, ...]:
        return llm.complete(ASK, schema=SCHEMA, n=3, seed=0, **sampling).parsed

    steered = words(steering=STEERING)
    assert all(set(answer) == {"word"} for answer in steered) and steered != words()


def test_other_families_name_their_layers_otherwise() -> None:
    config = GPT2Config(n_layer=3, n_embd=16, n_head=2, vocab_size=50, n_positions=32)
    gpt = GPT2LMHeadModel(config).eval()
    layer, ids = decoder_layer(gpt, 0.4), torch.tensor([[1, 2, 3]])
    assert layer is gpt.transformer.h[1]
    with torch.no_grad():
        plain = gpt(ids).logits
        with added(layer, torch.randn(16)):
            assert torch.equal(gpt(ids).logits[:, :-1], plain[:, :-1])
            assert not torch.equal(gpt(ids).logits[:, -1], plain[:, -1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**STEERING, "positve": []}, "Did you mean 'positive'"),
        ({"positive": ["a"]}, "steering negative"),
        ({**STEERING, "positive": "a text"}, "allowed: a list of texts"),
        ({**STEERING, "mode": "soft"}, "allowed: exact, sticky"),
        ({**STEERING, "depth": 1}, "0 <= depth < 1"),
        ({**STEERING, "alpha": "much"}, "steering is"),
        (["a"], "a mapping of positive"),
    ],
)
def test_what_is_no_steering_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_steering(given)


def test_texts_that_are_the_same_give_no_direction(llm: LocalLLM) -> None:
    with pytest.raises(InputError, match="are the same"):
        llm.complete(ASK, steering={"positive": ["one"], "negative": ["one"]})


def test_models_that_cannot_be_steered_say_so(endpoint: Any) -> None:
    for other in (OpenAILLM("m", endpoint.url), ScriptedLLM(["x"])):
        assert not other.can_steer
        with pytest.raises(InputError, match="cannot be steered"):
            other.complete(ASK, steering=STEERING)
    assert endpoint.requests == []


def test_a_steering_passes_the_meter_and_is_part_of_the_record(llm: LocalLLM, tmp_path: Path) -> None:
    with CachedLLM(llm, tmp_path / "calls.sqlite") as cached:
        metered = MeteredLLM(cached, Ledger(Budget()))
        assert metered.can_steer
        plain = metered.complete(ASK, seed=5, max_tokens=20)
        steered = metered.complete(ASK, seed=5, max_tokens=20, steering=STEERING)
        assert steered.text == llm.complete(ASK, seed=5, max_tokens=20, steering=STEERING).text != plain.text
        assert not steered.is_cached
    with CachedLLM(llm.name, tmp_path / "calls.sqlite", mode="replay") as replayed:
        assert replayed.can_steer
        again = replayed.complete(ASK, seed=5, max_tokens=20, steering=STEERING)
        assert again.is_cached and again.text == steered.text


def test_a_record_without_a_steered_call_cannot_steer(llm: LocalLLM, tmp_path: Path) -> None:
    with CachedLLM(llm, tmp_path / "calls.sqlite") as cached:
        cached.complete([{"role": "user", "content": 'say "steering":{'}], seed=5)
    with CachedLLM(llm.name, tmp_path / "calls.sqlite", mode="replay") as replayed:
        assert not replayed.can_steer
