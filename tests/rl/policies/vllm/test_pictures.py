"""A model that sees pictures, served by vLLM and asked by the agent: the picture is in what it answers.

The model is a random Idefics3 in float32. Of vLLM's architectures it is one that loads without torchvision.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from PIL import Image
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from engine import Budget, Media, gallery, optimize
from engine.llm import LLM, ScriptedLLM, resolve
from engine.media import content
from rl.policies._vllm.launch import OwnServer
from tests.rl.policies.vllm.conftest import serving

pytestmark = pytest.mark.vllm

SIDE, PATCH = 32, 8
NAMES = ["red", "blue"]
TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}\n{% endfor %}"
)
name_class, look, score, question = (
    gallery.load(f"agents/image_classifier.py:{name}") for name in ("name_class", "look", "score", "class_question")
)


def painting(left: str, right: str) -> Media:
    """A picture of two colours, which is not of the model's own size."""
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), left)
    image.paste(right, (SIDE, 0, 2 * SIDE, 2 * SIDE))
    data = io.BytesIO()
    image.save(data, "PNG")
    return Media(data.getvalue())


PICTURES = [painting("red", "black"), painting("blue", "black"), painting("black", "red")]


@pytest.fixture(scope="module")
def seeing(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model, with its processor."""
    folder = tmp_path_factory.mktemp("seeing")
    words = copy.deepcopy(tokenizer)
    marks = ["<global-img>", "<image>", "<fake_token_around_image>", "<end_of_utterance>"]
    words.add_special_tokens({"additional_special_tokens": marks})
    size = {"longest_edge": SIDE}
    eyes = Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    seen = (SIDE // PATCH) ** 2 // 2**2  # tokens a picture: its patches, of which four become one
    Idefics3Processor(eyes, words, image_seq_len=seen, chat_template=TEMPLATE).save_pretrained(folder)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.15}
    text = {
        **small,
        "model_type": "llama",
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "eos_token_id": 256,
        "pad_token_id": 256,
        "bos_token_id": None,
    }
    vision = {**small, "hidden_size": 32, "intermediate_size": 64, "image_size": SIDE, "patch_size": PATCH}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Idefics3Config(
            vision_config=vision,
            text_config=text,
            scale_factor=2,
            image_token_id=words.convert_tokens_to_ids("<image>"),
            pad_token_id=256,
            initializer_range=0.15,
        )
        Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def eye_server(seeing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with serving(seeing, tmp_path_factory.mktemp("eyes") / "vllm.log") as server:
        yield server


@pytest.fixture
def llm(eye_server: OwnServer, seeing: Path) -> LLM:
    return resolve(f"{eye_server.url}/v1#{seeing}", max_tokens=8)


def logprobs(server: OwnServer, model: Path, picture: Media) -> dict[str, float]:
    """The three likeliest first tokens of the served model's answer."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model=str(model),
            messages=[{"role": "user", "content": content(picture, "What?")}],
            max_tokens=1,
            temperature=0,
            logprobs=True,
            top_logprobs=3,
        )
    (first,) = answer.choices[0].logprobs.content
    return {token.token: token.logprob for token in first.top_logprobs}


def expected(model: Path, picture: Media) -> list[float]:
    """The same by transformers."""
    processor = Idefics3Processor.from_pretrained(model)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    inputs = processor(text=processor.apply_chat_template(asked), images=[image], return_tensors="pt")
    with torch.no_grad():
        logits = Idefics3ForConditionalGeneration.from_pretrained(model).eval()(**inputs).logits[0, -1]
    return logits.log_softmax(-1).topk(3).values.tolist()


def test_the_answer_s_probabilities_are_those_of_transformers_for_the_same_picture(eye_server: OwnServer, seeing: Path):
    found = [logprobs(eye_server, seeing, picture) for picture in PICTURES]
    assert [list(each.values()) for each in found] == [
        pytest.approx(expected(seeing, picture), abs=1e-3) for picture in PICTURES
    ]
    assert found == [logprobs(eye_server, seeing, picture) for picture in PICTURES]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert max(found[one].values()) != pytest.approx(max(found[other].values()), abs=1e-2)


def test_the_agent_gets_an_answer_that_depends_on_picture_and_question(llm: LLM):
    answers = [look("What?", picture, NAMES, llm) for picture in PICTURES]
    assert len(set(answers)) == 3 and all(answers)
    assert answers == [look("What?", picture, NAMES, llm) for picture in PICTURES]
    assert look("Which colour?", PICTURES[0], NAMES, llm) != answers[0]
    assert all(name_class(picture, NAMES, llm) in ("", *NAMES) for picture in PICTURES)


def test_a_search_asks_the_server_with_each_question(llm: LLM, tmp_path: Path):
    """A random model names no class, so no question is better, and the start is kept."""
    script = iter(["Which colour is it?", "Name it."])
    examples = [{"picture": picture, "class": NAMES[i % 2]} for i, picture in enumerate(PICTURES)]
    before = question.value
    result = optimize(
        lambda example: name_class(example["picture"], NAMES, llm),
        examples,
        feedback=score,
        optimizer={"kind": "glov", "candidates": 2},
        llm=ScriptedLLM(lambda messages: next(script)),
        budget=Budget(evaluations=2),
        run_dir=tmp_path / "run",
    )
    assert [e.scores for e in result.history] == [(0.0, 0.0, 0.0)] * 3 and not any(
        any(e.failed) for e in result.history
    )
    assert result.best == {"class_question": before}
