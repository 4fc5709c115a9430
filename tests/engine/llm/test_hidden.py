"""Texts as mean hidden states, held against transformers' own on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.budget import Budget, Ledger
from engine.errors import InputError
from engine.llm import CachedLLM, LocalLLM, ScriptedLLM, hidden
from engine.metering import MeteredLLM
from tests.engine.llm import byte_llama

TEXTS = ["a", "a longer text than the others of this list", "two words", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama over bytes with random weights and room for 64 tokens."""
    return byte_llama.saved(tmp_path_factory.mktemp("bytes"), positions=64)


@pytest.fixture
def llm(folder: Path) -> LocalLLM:
    return LocalLLM(folder)


def by_transformers(folder: Path, text: str) -> torch.Tensor:
    """The same by hand: one text, no padding, the last of all hidden states, without the first token."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.eos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
    with torch.inference_mode():
        return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, 1:].mean(0)


def test_a_batch_of_unequal_texts_has_the_vectors_that_each_has_alone(folder: Path, llm: LocalLLM) -> None:
    vectors = torch.tensor(llm.embed(TEXTS))
    assert vectors.shape == (4, 32)
    assert torch.equal(vectors[0], vectors[3])
    for text, vector in zip(TEXTS, vectors, strict=True):
        torch.testing.assert_close(vector, by_transformers(folder, text), rtol=1e-5, atol=1e-6)
        alone = torch.tensor(LocalLLM(folder).embed([text])[0])
        torch.testing.assert_close(vector, alone, rtol=1e-5, atol=1e-6)


def test_a_text_is_forwarded_once_and_the_oldest_is_forgotten(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    first = llm.embed(TEXTS)
    calls: list[int] = []
    llm.model.base_model.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    assert llm.embed(list(reversed(TEXTS))) == first[::-1] and not calls
    monkeypatch.setattr(hidden, "KEPT_TEXTS", 2)
    llm.embed(["new"])
    assert calls == [1]
    llm.embed(["new", "a"])
    assert calls == [1]
    llm.embed(["two words"])
    assert calls == [1, 1]


def test_many_texts_go_in_several_batches(folder: Path, llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {i} " + "x" * (i % 7) for i in range(30)]
    whole = torch.tensor(llm.embed(texts))
    monkeypatch.setattr(hidden, "BATCH_TOKENS", 40)
    torch.testing.assert_close(torch.tensor(LocalLLM(folder).embed(texts)), whole, rtol=1e-5, atol=1e-6)


def test_a_text_beyond_the_context_is_cut_and_an_empty_one_refused(llm: LocalLLM) -> None:
    assert llm.embed(["x" * 500]) == llm.embed(["x" * 63])
    with pytest.raises(InputError, match="empty"):
        llm.embed(["a", ""])


def test_counted_and_recorded_models_pass_it_on_and_others_say_that_they_cannot(llm: LocalLLM, tmp_path: Path) -> None:
    with CachedLLM(llm, tmp_path / "calls.sqlite") as cached:
        metered = MeteredLLM(cached, Ledger(Budget(calls=0)))
        assert metered.can_embed and metered.embed(TEXTS) == llm.embed(TEXTS)
        assert metered.usage.calls == 0
    with CachedLLM("local:x", tmp_path / "calls.sqlite", mode="replay") as replayed:
        assert not replayed.can_embed
        with pytest.raises(InputError, match="local:x shows no hidden states"):
            replayed.embed(["a"])
    assert not ScriptedLLM(["a"]).can_embed
