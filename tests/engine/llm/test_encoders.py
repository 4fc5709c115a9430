"""Encoders: unit vectors whatever the batch, from a tiny random CLIP made here and from the embedded encoder."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, BertConfig, BertModel, CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from engine import Budget
from engine.errors import DataError, EnvironmentMissing, InputError, UnknownName
from engine.llm import ScriptedLLM
from engine.llm.encoders import ClipEncoder, SentenceEncoder, dual_encoder

ROOT = Path(__file__).parents[3]
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "photo", "of", "red", "blue", "small", "square"]
PREPROCESSOR = """{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 16}, "do_resize": true,
 "crop_size": {"height": 16, "width": 16}, "do_center_crop": true, "do_normalize": true, "do_rescale": true,
 "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": true}"""


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(WORDS), "max_position_embeddings": 12, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    (path / "preprocessor_config.json").write_text(PREPROCESSOR)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def picture(colour: str, size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def test_clip_s_vectors_are_those_of_the_model_and_of_length_one(clip: Path) -> None:
    encoder = dual_encoder(clip)
    assert isinstance(encoder, ClipEncoder) and encoder.has_images
    model = AutoModel.from_pretrained(clip).eval()
    image = picture("red")
    pixels = torch.full((1, 3, 16, 16), -1.0)
    pixels[:, 0] = 1.0  # red: (1, 0, 0), less 0.5, over 0.5
    ids = torch.tensor([[1, 4, 5, 6, 7, 2]])
    with torch.no_grad():
        both = model(input_ids=ids, pixel_values=pixels)  # its embeds are normalized by the model itself
    assert torch.allclose(encoder.embed_text(["a photo of red"]), both.text_embeds, atol=1e-5)
    assert torch.allclose(encoder.embed_image([image]), both.image_embeds, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "bert"])
def test_a_text_s_vector_does_not_depend_on_its_batch(kind: str, request: pytest.FixtureRequest) -> None:
    folder, texts = request.getfixturevalue(kind), ["red", "a photo of a small blue square", "blue"]
    together = dual_encoder(folder).embed_text(texts)
    alone = torch.cat([dual_encoder(folder).embed_text([text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=-1), torch.ones(3))


def test_a_text_is_encoded_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = SentenceEncoder(bert), []
    encode = encoder._text_features
    monkeypatch.setattr(encoder, "_text_features", lambda texts: seen.append(texts) or encode(texts))
    first = encoder.embed_text(["red", "blue", "red"])
    assert torch.equal(encoder.embed_text(["blue", "red"]), first[[1, 0]])
    assert [text for part in seen for text in part] == ["red", "blue"]


def test_images_of_any_mode_and_size_and_files(clip: Path, tmp_path: Path) -> None:
    encoder = dual_encoder(clip)
    picture("red", 40).save(tmp_path / "red.png")
    found = encoder.embed_image([tmp_path / "red.png", picture("red", 40), picture("blue").convert("L")])
    assert found.shape == (3, 8) and torch.allclose(found.norm(dim=-1), torch.ones(3))
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2], atol=1e-3)


def test_a_sentence_encoder_has_no_images(bert: Path) -> None:
    encoder = dual_encoder(bert)
    assert isinstance(encoder, SentenceEncoder) and not encoder.has_images
    with pytest.raises(InputError, match="encodes texts only"):
        encoder.embed_image([picture("red")])


@pytest.mark.parametrize("bad", ["a text", []])
def test_what_is_no_list_of_texts_or_images_is_refused(clip: Path, bad: Any) -> None:
    encoder = dual_encoder(clip)
    for embed in (encoder.embed_text, encoder.embed_image):
        with pytest.raises(InputError, match="allowed: a list"):
            embed(bad)


def test_files_that_are_no_images_and_things_that_are_none(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match="not an image"):
        dual_encoder(clip).embed_image([tmp_path / "text.png"])
    with pytest.raises(InputError, match="a PIL image or a path"):
        dual_encoder(clip).embed_image([3])


def test_references_that_name_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName):
        dual_encoder("nothing")
    with pytest.raises(DataError, match="not an encoder"):
        dual_encoder(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(EnvironmentMissing, match="open-clip-torch"):
        dual_encoder("open_clip:ViT-B-32/openai")


@pytest.mark.model
def test_minilm_is_that_of_the_classifier() -> None:
    from engine import gallery

    texts = ["It broke after a week.", "I love it."]
    wanted = gallery.load("agents/classifier.py:embed")(texts)
    assert torch.allclose(dual_encoder("minilm-l6-v2").embed_text(texts), wanted, atol=1e-5)


def test_the_clip_example_runs_on_any_encoder(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of plain pictures; a random CLIP tells them apart for some prompts and not for others."""
    for kind in ("red", "blue"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for i in range(6):
            picture(kind, 20 + i).save(tmp_path / "data" / kind / f"{i}.png")
    words = itertools.cycle(["a {}", "photo of {}", "no gap", "small {} square", "a small {}", "square of {} photo"])
    llm = ScriptedLLM(lambda messages: next(words), can_steer=True)
    example = runpy.run_path(str(ROOT / "examples" / "glov_clip.py"))
    monkeypatch.chdir(tmp_path)
    result = example["run"](
        dual_encoder(clip), tmp_path / "data", 4, llm=llm, budget=Budget(evaluations=5, invalid=99), accept="better"
    )
    assert len(result.history[0].scores) == 8 and result.validation.best.n == 4
    assert result.score >= result.baseline
    assert {"a {}", "photo of {}"} <= {e.candidate.values["prompt"] for e in result.history}
    assert all(e.candidate.values["prompt"].count("{}") == 1 for e in result.history)
