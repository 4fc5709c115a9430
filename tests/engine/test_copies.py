from __future__ import annotations

from dataclasses import dataclass

import pytest

from engine import Budget, optimize, trace
from engine.copies import Copies
from engine.journal import Journal
from engine.llm import ScriptedLLM

STORY = "The old lighthouse keeper climbed the stairs every evening to light the lamp for passing ships."


def test_eight_words_in_a_row_are_a_copy_whatever_their_case_and_signs():
    copies = Copies(["unrelated words", STORY])
    found = copies.found("Answer well. For example: THE OLD LIGHTHOUSE, keeper climbed the stairs every - evening")
    assert found.startswith("repeats example 2 word for word: 'the old lighthouse keeper")
    assert not copies.found("The old lighthouse keeper climbed the stairs twice every evening")  # seven in a row


def test_a_short_example_is_a_copy_as_a_whole_and_ordinary_speech_is_none():
    copies = Copies(["What is the capital of France?", "two plus two"])
    assert copies.found("Q: what is the capital of france? A: Paris")
    assert not copies.found("Say what the capital is") and not copies.found("two plus two")


@dataclass
class Pair:
    question: str
    answer: str


@pytest.mark.parametrize("example", [{"q": [STORY]}, ("x", STORY), Pair("q", STORY), {"deep": {"er": (STORY,)}}])
def test_texts_inside_examples_count(example):
    assert Copies([example]).found({"system": [f"Example: {STORY}"]})
    assert not Copies([example]).found("something else, which no example has in it anywhere at all")


def test_the_users_own_words_may_stay_and_data_without_texts_has_none():
    prompt = f"Continue this story: {STORY}"
    assert not Copies([STORY], own=[prompt]).found(prompt + " Be brief.")
    copies = Copies([1, None, 2.5, b"bytes are no text and are passed over in silence"])
    assert not copies.found("1 2.5") and not copies.found(7)


def test_code_that_holds_an_example_is_a_copy():
    source = f'def f(x: str) -> str:\n    return {{"{STORY}": "yes"}}.get(x, "no")\n'
    assert Copies([STORY]).found(source)


def searched(tmp_path, **options):
    prompt = trace.param("Answer.", name="prompt", description="the instruction")

    @trace.node
    def length(prompt: str, story: str) -> int:
        return len(prompt)

    return optimize(
        lambda story: length(prompt, story),
        [STORY, "short"],
        feedback=lambda _, out: out,
        optimizer={"kind": "opro", "candidates": 1},
        llm=ScriptedLLM([f"Answer as in: {STORY}", "Answer well and briefly."], cycle=True),
        budget=Budget(evaluations=1, invalid=3),
        run_dir=tmp_path / "run",
        **options,
    )


def test_a_search_refuses_copies_and_says_why(tmp_path):
    result = searched(tmp_path)
    assert result.best == {"prompt": "Answer well and briefly."}
    assert result.cost.invalid == 1
    [(_, rows)] = Journal(tmp_path / "run" / "journal.sqlite").items("refused")
    assert "repeats example 1 word for word" in rows[0]["reason"]


def test_copies_can_be_allowed(tmp_path):
    assert STORY in searched(tmp_path, allow_copies=True).best["prompt"]
