"""Facts: the words of the lexicon's file, and a class that follows the model's log-probabilities."""

import pytest

from engine import trace
from engine.errors import InputError
from engine.llm import ScriptedLLM

pytest.importorskip("torch")


class Scoring(ScriptedLLM):
    """Likes " positive" by `margin`, whatever the prompt."""

    def __init__(self, margin):
        super().__init__([])
        self.margin, self.seen = margin, []

    def scores(self, prompts, continuations):
        self.seen += prompts
        return [self.margin if text == " positive" else 0.0 for text in continuations]


def test_the_likelier_class_is_named(agent):
    sentiment = agent("lexicon.py:sentiment")
    assert sentiment("fine", llm=Scoring(0.1)) == "positive"
    assert sentiment("fine", llm=Scoring(-0.1)) == "negative"


def test_the_prompt_stands_before_the_word(agent):
    llm = Scoring(1.0)
    with trace.using({agent("lexicon.py:lexicon_prompt"): "Judge."}):
        agent("lexicon.py:sentiment")("fine", llm=llm)
    assert llm.seen == ["Judge.\nInput: fine\nOutput:"] * 2


def test_feedback_reaches_the_prompt(agent):
    with trace.record():
        output = agent("lexicon.py:sentiment")("fine", llm=Scoring(1.0))
    assert [param.name for param in trace.backward(output, "wrong")] == ["lexicon_prompt"]


def test_a_model_without_log_probabilities_is_refused(agent):
    with pytest.raises(InputError, match="gives no log-probabilities"):
        agent("lexicon.py:sentiment")("fine", llm=ScriptedLLM([]))


@pytest.mark.model
def test_the_words_are_those_that_people_agree_on(agent):
    ratings = agent("lexicon.py:ratings")()
    assert len(ratings) == 3548  # 3551 lines of the file, three of them twice
    halves = [agent("lexicon.py:fitness")(100), agent("lexicon.py:held_out")(400)]
    assert [len(set(half)) for half in halves] == [100, 400]
    assert not set(halves[0]) & set(halves[1])
    assert all(sum(ratings[word] > 0 for word in half) == len(half) / 2 for half in halves)


@pytest.mark.model
def test_score_compares_with_people(agent):
    score, ratings = agent("lexicon.py:score"), agent("lexicon.py:ratings")()
    word = next(word for word, rating in ratings.items() if rating > 3)
    assert score(word, "positive").score == 1.0
    assert score(word, "negative").score == 0.0
