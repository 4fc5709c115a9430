"""A picture reaches the model as it is, an answer is matched to a class by words, and a better question is found."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from engine import Budget, Media, gallery, optimize, trace
from engine.errors import InputError
from engine.llm import OpenAILLM, ScriptedLLM
from engine.testing import FAULTS, Server

FILE = "agents/image_classifier.py"
name_class, class_in, score, question = (
    gallery.load(f"{FILE}:{name}") for name in ("name_class", "class_in", "score", "class_question")
)
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


@pytest.fixture(autouse=True)
def _the_question_that_came_with_it() -> Iterator[None]:
    """A search sets what it found."""
    before = question.value
    yield
    question.set(before)


def painting(colour: str, shape: str, size: int = 24) -> Media:
    """A square or a disc of the colour on black; the disc leaves the corners black."""
    image = Image.new("RGB", (size, size))
    draw = ImageDraw.Draw(image)
    (draw.rectangle if shape == "square" else draw.ellipse)((0, 0, size - 1, size - 1), fill=COLOURS[colour])
    data = io.BytesIO()
    image.save(data, "PNG")
    return Media(data.getvalue())


def parts(messages: Any) -> tuple[bytes, str]:
    """The bytes of the picture that was sent, and the first text beside it."""
    picture, text = messages[-1]["content"][:2]
    return base64.b64decode(picture["image_url"]["url"].partition("base64,")[2]), text["text"]


def see(messages: Any, request: Any) -> str:
    """Looks at the pixels; tells the colour where it is asked for one, "blue" to a guess, else the shape."""
    data, asked = parts(messages)
    image = Image.open(io.BytesIO(data))
    red, _, blue = image.getpixel((image.width // 2, image.height // 2))
    if "colour" in asked:
        return f"It is {'Red' if red > blue else 'Blue'}."
    if "guess" in asked:
        return "blue"
    return "a disc" if image.getpixel((0, 0)) == (0, 0, 0) else "a square"


EXAMPLES = [
    {"picture": painting(colour, shape, size), "class": colour}
    for colour in COLOURS
    for shape in ("square", "disc")
    for size in (24, 30)
]


@pytest.mark.parametrize("shape", ["square", "disc"])
@pytest.mark.parametrize("colour", COLOURS)
def test_the_model_sees_the_picture_as_it_is(colour: str, shape: str) -> None:
    picture = painting(colour, shape)
    with Server(see) as server, trace.using({question: "Which colour is it?"}):
        assert name_class(picture, list(COLOURS), OpenAILLM("test", server.url)) == colour
    (call,) = server.calls
    assert parts(call.request["messages"]) == (picture.data, "Which colour is it?")
    assert call.request["temperature"] == 0


def test_the_classes_stand_below_whatever_question() -> None:
    llm = ScriptedLLM(["cat"], cycle=True)
    for text in ("What?", "Which of {classes}?"):
        with trace.using({question: text}):
            name_class(EXAMPLES[0]["picture"], ["cat", "sea lion"], llm)
        picture, asked, names = llm.calls[-1].messages[0]["content"]
        assert (picture["type"], asked["text"]) == ("image_url", text)
        assert names["text"].endswith(":\n- cat\n- sea lion")


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("lion", "lion"),
        ("A Sea Lion!", "sea lion"),
        ("a sea-lion, not a walrus", "sea lion"),
        ("**SEA_LION**", "sea lion"),
        ("sea\n lion", "sea lion"),
        ("a sea lion and a lion", ""),
        ("a sea lion, or: lion, sea lion", ""),
        ("lion, lion and lion", "lion"),
        ("lions", ""),
        ("sealion", ""),
        ("dandelion", ""),
        ("", ""),
        (" \n", ""),
        ("a walrus", ""),
        ("cafe\u0301", "Café"),
        ("ＣＡＦÉ", "Café"),
        ("cafe", ""),
        ("STRASSE", "Straße"),
        ("C++", "C++"),
        ("C", "C"),
        ("C and C++", ""),
        ("<think>a lion? No.</think>Café", "Café"),
        ("a lion</think>Café", "Café"),
        ("<think>it must be a lion", ""),
        ("lion\ud800", "lion"),
        ('{"class": "lion"}', "lion"),
        ("100 \u3392", "MHz"),
    ],
)
def test_an_answer_is_matched_by_whole_words_longest_names_first(answer: str, wanted: str) -> None:
    classes = ["lion", "sea lion", "Café", "Straße", "C++", "C", "MHz"]
    assert class_in(answer, classes) == class_in(answer, classes[::-1]) == wanted


@pytest.mark.parametrize("classes", [[], ["cat", "Cat"], ["sea lion", "sea-lion"], ["cat", " "], ["cat", "cat"]])
def test_classes_that_cannot_be_told_apart_are_refused_before_the_model_is_asked(classes: list[str]) -> None:
    llm = ScriptedLLM([])
    with pytest.raises(InputError, match="the classes are"):
        name_class(EXAMPLES[0]["picture"], classes, llm)
    assert not llm.calls


WORDS = st.lists(st.sampled_from("abcx"), min_size=1, max_size=3).map(tuple)


@given(
    st.sets(WORDS, min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from("abcxy"), st.sampled_from([" ", "-", "_", "\n", " \u2013 "])), max_size=12),
)
def test_matching_is_that_of_a_reader_of_words(names: set[tuple[str, ...]], text: list[tuple[str, str]]) -> None:
    """From left to right, the longest name that goes on from here; what was read is not read again."""
    words, at, found = [word for word, _ in text], 0, set()
    while at < len(words):
        here = [name for name in names if tuple(words[at : at + len(name)]) == name]
        longest = max(here, key=len, default=())
        found |= {longest} if longest else set()
        at += max(1, len(longest))
    wanted = " ".join(found.pop()) if len(found) == 1 else ""
    answer = "".join(word.upper() + gap for word, gap in text)
    assert class_in(answer, [" ".join(name) for name in sorted(names)]) == wanted


@given(
    st.text(), st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1, unique_by=str.casefold)
)
def test_whatever_the_answer_the_output_is_a_class_or_nothing(answer: str, classes: list[str]) -> None:
    try:
        found = class_in(answer, classes)
    except InputError:  # names that are one and the same in Unicode's normal form
        return
    assert found in ("", *classes)


@given(st.sampled_from(["red", "blue", "dark green"]), st.text(st.characters(categories=["P", "Z"])))
def test_a_name_among_punctuation_is_found(name: str, marks: str) -> None:
    assert class_in(f"{marks} {name.title()} {marks}", ["red", "blue", "dark green", "green"]) == name


@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if not fault.is_connection])
def test_a_spoilt_answer_names_no_class_or_the_one_that_is_in_it(fault: str) -> None:
    unharmed = {
        "malformed_json", "closed_thinking", "prose_around", "code_fence", "unknown_keys", "duplicate",
        "lone_surrogates", "endless_answer", "wrong_n", "missing_usage", "slow_body",
    }  # fmt: skip
    with Server(lambda messages, request: "red", faults={fault: 1.0}) as server:
        output = name_class(EXAMPLES[0]["picture"], list(COLOURS), OpenAILLM("test", server.url))
    assert server.counts == {fault: 1}
    assert output == ("red" if fault in unharmed else "")


def test_the_score_says_what_was_right_and_what_was_named() -> None:
    example = {"picture": EXAMPLES[0]["picture"], "class": "red"}
    assert score(example, "red").score == 1.0
    assert (score(example, "blue").score, score(example, "").score) == (0.0, 0.0)
    assert score(example, "blue").text == "the picture shows 'red'; the answer names 'blue'"
    assert "no class" in score(example, "").text


def searched(server: Server, optimizer: Any, proposer: ScriptedLLM, run_dir: Any, **options: Any) -> Any:
    llm = OpenAILLM("test", server.url)
    return optimize(
        lambda example: name_class(example["picture"], list(COLOURS), llm),
        EXAMPLES,
        feedback=score,
        optimizer=optimizer,
        llm=proposer,
        run_dir=run_dir,
        **options,
    )


@pytest.mark.parametrize("workers", [1, 8])
def test_a_search_finds_the_question_that_the_model_understands(workers: int, tmp_path: Any) -> None:
    """Asked anything, the model tells shapes: 0 of 8; to a guess it says "blue": 4 of 8; asked for colours: 8 of 8."""
    script = iter(["Which form is it?", "Take a guess!", "Which colour is it?"])
    proposer, glov = ScriptedLLM(lambda messages: next(script)), {"kind": "glov", "candidates": 3}
    with Server(see) as server:
        result = searched(server, glov, proposer, tmp_path / "run", workers=workers, budget=Budget(evaluations=3))
    assert {e.candidate.values["class_question"]: e.score for e in result.history[1:]} == {
        "Which form is it?": 0.0, "Take a guess!": 0.5, "Which colour is it?": 1.0,
    }  # fmt: skip
    assert (result.baseline, result.score, result.best) == (0.0, 1.0, {"class_question": "Which colour is it?"})
    assert len(server.calls) == 4 * len(EXAMPLES)
    assert {parts(call.request["messages"])[0] for call in server.calls} == {e["picture"].data for e in EXAMPLES}


def test_an_optimizer_that_reads_sees_the_model_s_own_words(tmp_path: Any) -> None:
    """So the feedback need not repeat them."""
    proposer = ScriptedLLM([{"reasoning": "", "suggestion": {"class_question": "Which colour is it?"}}])
    with Server(see) as server:
        result = searched(server, "optoprime", proposer, tmp_path / "run", budget=Budget(evaluations=1))
    said = proposer.calls[0].messages[-1]["content"]
    told = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
    assert re.search(r"look_\d+.*a (disc|square)", told) and "the answer names no class" in told
    assert result.score == 1.0
