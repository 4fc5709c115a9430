"""The in-process model: a tiny random one for the machinery, the embedded one for real text."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.errors import DataError, InputError, UnknownName
from engine.llm import LocalLLM
from engine.llm.schema import faults
from tests.engine.llm import byte_llama

ASK = [{"role": "user", "content": "Name a colour."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string", "maxLength": 40},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "mode": {"enum": ["fast", "slow"]},
    },
    "required": ["reasoning", "threshold", "mode"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama over bytes with random weights; its chat template is the bare text."""
    return byte_llama.saved(tmp_path_factory.mktemp("bytes"), positions=1024)


@pytest.fixture(scope="module")
def llm(folder: Path) -> LocalLLM:
    return LocalLLM(folder, max_tokens=12)


def test_greedy_equals_transformers_generate(folder: Path, llm: LocalLLM) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("Name a colour.\n", return_tensors="pt", add_special_tokens=False)
    tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)[
        0, inputs.input_ids.shape[1] :
    ]
    completion = llm.complete(ASK, temperature=0)
    assert completion.text == tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert completion.usage.prompt_tokens == inputs.input_ids.shape[1]
    assert completion.usage.completion_tokens == len(tokens)


def test_a_seed_decides_each_choice_whatever_their_number(llm: LocalLLM) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    many = llm.complete(ASK, n=4, seed=5)
    assert llm.complete(ASK, n=2, seed=5).texts == many.texts[:2]
    assert llm.complete(ASK, seed=6).text != many.text
    assert len(set(many.texts)) == 4
    assert torch.equal(torch.random.get_rng_state(), before)


def test_calls_without_a_seed_follow_the_model_s_own(folder: Path) -> None:
    one, two = (LocalLLM(folder, seed=1, max_tokens=8) for _ in range(2))
    texts = [one.complete(ASK).text for _ in range(3)]
    assert texts == [two.complete(ASK).text for _ in range(3)]
    assert len(set(texts)) == 3


def test_stop_texts_are_cut_off_and_end_the_choice(llm: LocalLLM) -> None:
    whole = llm.complete(ASK, seed=0, max_tokens=30).text
    stop = whole[10]
    completion = llm.complete(ASK, seed=0, max_tokens=30, stop=[stop, "never"])
    assert completion.text == whole[: whole.index(stop)]
    assert completion.finish_reasons == ("stop",)


def test_a_stop_text_at_the_very_start_leaves_nothing(llm: LocalLLM) -> None:
    first = llm.complete(ASK, seed=0, max_tokens=30).text[0]
    assert llm.complete(ASK, seed=0, max_tokens=30, stop=first).text == ""


def test_max_tokens_is_said(llm: LocalLLM) -> None:
    completion = llm.complete(ASK, n=3, seed=0, max_tokens=4)
    assert completion.finish_reasons == ("length",) * 3
    assert completion.usage.completion_tokens == 12


def test_a_random_model_fits_the_schema(llm: LocalLLM) -> None:
    completion = llm.complete(ASK, schema=SCHEMA, n=4, seed=0)
    assert [list(faults(value, SCHEMA)) for value in completion.parsed] == [[]] * 4
    assert [json.loads(text) for text in completion.texts] == list(completion.parsed)
    assert completion.usage.calls == 1
    assert llm.complete(ASK, schema=SCHEMA, n=2, seed=0).parsed == completion.parsed[:2]


def test_a_schema_without_a_skeleton_is_asked_for_in_words(llm: LocalLLM) -> None:
    with pytest.raises(Exception, match="after one repair request"):
        llm.complete(ASK, schema={"type": "object"}, seed=0)


def test_scores_are_the_log_probabilities_of_the_model(folder: Path, llm: LocalLLM) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def by_hand(prompt: str, continuation: str) -> float:
        before, after = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, continuation))
        ids = before + after
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(logits[place - 1, ids[place]]) for place in range(len(before), len(ids)))

    pairs = [("a", "b"), ("The capital of France is", " Paris"), ("The capital", " of"), ("x" * 900, "y" * 50)]
    scores = llm.scores(*zip(*pairs, strict=True))
    assert scores == pytest.approx([by_hand(*pair) for pair in pairs], abs=1e-3)
    assert llm.score(*pairs[1]) == pytest.approx(scores[1], abs=1e-4)
    told = "Tell what it is. " * 5
    pairs = [(told + word, after) for word in ("a cat", "a dog, I think", "") for after in (" yes", " or no")]
    assert llm.scores(*zip(*pairs, strict=True)) == pytest.approx([by_hand(*pair) for pair in pairs], abs=1e-3)
    with pytest.raises(InputError, match="empty"):
        llm.score("a", "")


def test_threads_give_what_one_thread_gives(llm: LocalLLM) -> None:
    alone = [llm.complete(ASK, seed=seed).text for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: llm.complete(ASK, seed=seed).text, range(8))) == alone


def test_a_prompt_longer_than_the_context_is_refused(llm: LocalLLM) -> None:
    with pytest.raises(InputError, match="1024 together with the answer"):
        llm.complete([{"role": "user", "content": "x" * 1024}])
    assert len(llm.complete([{"role": "user", "content": "x" * 1013}], temperature=0).text) <= 10


def test_bad_models_and_arguments(tmp_path: Path, llm: LocalLLM) -> None:
    with pytest.raises(UnknownName, match="smollm2-135m"):
        LocalLLM("smollm3-135m")
    with pytest.raises(DataError, match="not a causal language model"):
        LocalLLM(tmp_path).complete(ASK)
    with pytest.raises(InputError, match="temperature is -1"):
        llm.complete(ASK, temperature=-1)
    with pytest.raises(InputError, match="reads text only"):
        llm.complete([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


@pytest.mark.model
def test_the_embedded_model_speaks_and_fits_the_schema(embedded_model: Path) -> None:
    llm: Any = LocalLLM(embedded_model)
    assert (
        "blue"
        in llm.complete([{"role": "user", "content": "What colour is the sky?"}], temperature=0, max_tokens=24).text
    )
    assert llm.score("The capital of France is", " Paris") > llm.score("The capital of France is", " Rome") + 2
    completion = llm.complete(ASK, schema=SCHEMA, n=3, seed=0, max_tokens=24)
    assert [list(faults(value, SCHEMA)) for value in completion.parsed] == [[]] * 3
