"""Guided decoding with a model that knows nothing: every choice is random, every value must be valid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from engine.llm.guided import GuidedRow, can_guide
from engine.llm.sampling import Sampler, Sampling
from engine.llm.schema import faults
from engine.llm.vocabulary import Vocabulary


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level tokens, and merged ones that cross JSON's borders as those of real tokenizers do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ('"', ","),
        ('"', "}"),
        (".", '"'),
        ("1", "0"),
        ("a", "b"),
        ("Ġ", '"'),
        ("t", "r"),
        ("-", "1"),
        (",", "Ġ"),
    ]
    tokens = [*alphabet, *("".join(pair) for pair in merges), "<end>"]
    model = BPE({token: i for i, token in enumerate(tokens)}, merges)
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors this small lose time on more threads, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TOKENIZER = tokenizer()
WORDS = Vocabulary(TOKENIZER)


def written(schema: dict[str, Any], seed: int = 0, max_tokens: int = 40, temperature: float = 1.0) -> GuidedRow:
    """A row written with random logits."""
    row = GuidedRow(WORDS, schema, Sampler(Sampling(temperature=temperature), seed, 0), max_tokens)
    random = torch.Generator().manual_seed(seed)
    tokens = row.take_forced()
    for _ in range(2000):
        if row.is_done:
            break
        tokens.append(row.next(torch.randn(len(WORDS.text), generator=random)))
    assert row.is_done
    # What the model was shown is what the value says, but for a text that was cut back to a word's end.
    if row.finish_reason == "stop":
        assert TOKENIZER.decode(tokens, clean_up_tokenization_spaces=False) in (row.text, row.text + "\n")
    return row


BOUNDS = st.none() | st.floats(-1e4, 1e4).map(lambda x: round(x, 3))


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    low, high = draw(BOUNDS), draw(BOUNDS)
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["number", "integer"]))}
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high) + 1
    if low is not None:
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if high is not None:
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = high
    if low is not None and high is not None:
        # Wide enough that an integer lies strictly between.
        schema.update({key: schema[key] + 2 for key in ("maximum", "exclusiveMaximum") if key in schema})
    return schema


TEXTS = st.builds(
    lambda least, more, most: (
        {"type": "string"} | least | ({"maxLength": least.get("minLength", 0) + more} if most else {})
    ),
    st.just({}) | st.integers(0, 20).map(lambda n: {"minLength": n}),
    st.integers(0, 20),
    st.booleans(),
)
CHOICES = st.lists(st.integers(-100, 1000) | st.text(max_size=6) | st.booleans(), min_size=1, max_size=5).map(
    lambda values: {"enum": list({json.dumps(v): v for v in values}.values())}
)
LEAVES = (
    numbers() | TEXTS | CHOICES | st.just({"type": "boolean"}) | st.just({"type": "null"}) | st.just({"const": "k"})
)


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )
    lists = st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        inner,
        st.integers(1, 3),
        st.integers(0, 3),
    )
    return objects | lists


@given(st.recursive(LEAVES, containers, max_leaves=5), st.integers(0, 100))
def test_every_value_satisfies_its_schema(schema: dict[str, Any], seed: int) -> None:
    assert can_guide(schema)
    row = written(schema, seed)
    assert list(faults(json.loads(row.text), schema)) == []


def test_the_model_chooses_with_its_own_probabilities() -> None:
    logits = torch.full((len(WORDS.text),), -20.0)
    for text, share in (("f", 0.7), ("s", 0.2), ("m", 0.1)):
        logits[WORDS.encode(text)[0]] = torch.tensor(share).log()
    counts: Counter[str] = Counter()
    for seed in range(600):
        row = GuidedRow(WORDS, {"enum": ["fast", "slow", "medium"]}, Sampler(Sampling(), seed, 0), 8)
        row.take_forced()
        while not row.is_done:
            row.next(logits)
        counts[json.loads(row.text)] += 1
    # Four standard deviations of a binomial share at n = 600 are below 0.082.
    shares = {"fast": 0.7, "slow": 0.2, "medium": 0.1}
    assert all(abs(counts[name] / 600 - share) < 0.082 for name, share in shares.items())


@pytest.mark.parametrize(("low", "high"), [(3, 17), (-5, 5), (0, 0), (100, 105), (-2000, -1990), (8, 11)])
def test_every_integer_within_bounds_can_be_written(low: int, high: int) -> None:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    values = {json.loads(written(schema, seed).text) for seed in range(600)}
    assert values == set(range(low, high + 1))


@pytest.mark.parametrize("bound", [0.3, 0.1, -0.7, 1e-5, 12, 0, -3.25])
def test_a_bound_itself_can_be_written(bound: float) -> None:
    assert json.loads(written({"type": "number", "minimum": bound, "maximum": bound}).text) == bound


@pytest.mark.parametrize("low", [True, False])
def test_open_bounds_are_kept(low: bool) -> None:
    schema = {"type": "number", "exclusiveMinimum" if low else "exclusiveMaximum": 0}
    values = [json.loads(written(schema, seed).text) for seed in range(200)]
    assert all(value > 0 if low else value < 0 for value in values)


def test_bounds_too_narrow_for_short_decimals_still_give_a_value() -> None:
    schema = {"type": "number", "exclusiveMinimum": 0.5, "exclusiveMaximum": 0.50000001}
    assert 0.5 < json.loads(written(schema).text) < 0.50000001


def test_max_tokens_bounds_the_texts_and_the_value_is_whole_all_the_same() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    rows = [written(schema, seed, max_tokens=20, temperature=0.01) for seed in range(20)]
    assert {"length"} <= {row.finish_reason for row in rows}
    assert all(set(json.loads(row.text)) == {"a", "b"} for row in rows)


@pytest.mark.parametrize(
    "schema", [{}, {"type": "object"}, {"type": "array"}, {"properties": {"a": {}}, "type": "object"}]
)
def test_a_schema_without_a_skeleton_is_not_guided(schema: dict[str, Any]) -> None:
    assert not can_guide(schema)
