"""Facts: accuracies measured apart from this code (scikit-style script), and a split that leaks nothing."""

import pytest

from engine import trace

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.model

# accuracy on fitness and held-out halves; over six random splits it varies by 0.02
MEASURED = {
    ("negative", "positive"): (0.69, 0.70),
    ("a bad review", "a good review"): (0.78, 0.78),
    ("banana", "apple"): (0.48, 0.50),
    ("The customer complains.", "The customer praises."): (0.79, 0.80),
}


def accuracy(agent, sentences):
    classify, score = agent("classifier.py:classify"), agent("classifier.py:score")
    return sum(score(sentence, classify(sentence)).score for sentence in sentences) / len(sentences)


@pytest.mark.parametrize("texts", MEASURED)
def test_the_class_texts_decide_as_measured(agent, texts):
    params = agent("classifier.py:negative"), agent("classifier.py:positive")
    with trace.using(dict(zip(params, texts, strict=True))):
        found = accuracy(agent, agent("classifier.py:fitness")()), accuracy(agent, agent("classifier.py:held_out")())
    assert found == pytest.approx(MEASURED[texts], abs=0.04)


def test_the_halves_are_balanced_and_share_no_sentence(agent):
    halves = [agent(f"classifier.py:{name}")() for name in ("fitness", "held_out")]
    ratings = agent("classifier.py:ratings")()
    for half in halves:
        assert len(set(half)) == len(half) == 578
        assert sum(ratings[s] > 0 for s in half) == len(half) / 2
        assert all(abs(ratings[s]) >= 1.5 for s in half)
    assert not set(halves[0]) & set(halves[1])


@pytest.mark.parametrize(
    ("of", "each"),
    [
        ("nyt", 99),
        pytest.param("movie", 300, marks=pytest.mark.slow),  # each sentence is embedded
        pytest.param("tweets", 280, marks=pytest.mark.slow),
    ],
)
def test_there_are_three_other_sets(agent, of, each):
    """Of 198 positive and 353 negative sentences of the Times, and of 560 negative tweets, half; of the films 300."""
    halves = [agent(f"classifier.py:{name}")(of) for name in ("fitness", "held_out")]
    ratings, score = agent("classifier.py:ratings")(of), agent("classifier.py:score")
    for half in halves:
        assert sum(ratings[s] >= 1.5 for s in half) == sum(ratings[s] <= -1.5 for s in half) == each
        assert all(score(s, "positive" if ratings[s] > 0 else "negative").score == 1 for s in half)
    assert not set(halves[0]) & set(halves[1])


def test_embeddings_are_unit_vectors_whatever_the_batch(agent):
    embed = agent("classifier.py:embed")
    texts = ["short", "a much longer sentence about a camera that broke after a week of use"]
    together = embed([text + "!" for text in texts])
    alone = torch.cat([embed([text + "!"]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=-1), torch.ones(2))


def test_feedback_reaches_both_class_texts(agent):
    with trace.record():
        output = agent("classifier.py:classify")("It broke after a week.")
    assert [param.name for param in trace.backward(output, "wrong")] == ["negative", "positive"]


def test_feedback_says_what_was_wanted(agent):
    sentence = agent("classifier.py:fitness")()[0]
    wanted = "positive" if agent("classifier.py:ratings")()[sentence] > 0 else "negative"
    said = agent("classifier.py:score")(sentence, "neither")
    assert said.score == 0.0
    assert f"people call {sentence!r:.200} {wanted}" in said.text
