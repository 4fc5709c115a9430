"""Nobody can score a summary, but one can say which of several is better: a ranker in place of the feedback function.

    python examples/rank_outputs.py

The summaries of a step's candidates and of the present values are ranked side by side, one question a text.
"""

from pathlib import Path

from engine import Budget, optimize, trace
from engine.ranking import ProgramRanker, Ranking

TEXTS = [
    "The harbour ferry was late. Fog lay over the whole bay. It will leave at 14:30.",
    "The museum opens at 10. Bring a coat. The old halls are cold, and tickets cost 12 euros.",
    "Ann has baked bread. There are 3 loaves. The oven is still warm, and so is the kitchen.",
    "The lecture was moved. The new room is 204. It has windows, and chairs for everybody.",
    "Snow fell all night. The pass is closed until Friday, 8 o'clock. Trains run as usual.",
]
HELD_OUT = ["The lift is broken. It is to be repaired on the 7th. Take the stairs.",
            "The bus is full. The next one comes in 20 minutes. It stops at the mill as well."]  # fmt: skip

first = trace.param(0, name="first", ge=0, le=2, description="the sentence that the summary begins with")
most = trace.param(3, name="most", ge=1, le=20, description="words of the summary")
end = trace.param("!!!", name="end", choices=["!!!", "...", "."], description="what the summary ends with")


def summary(text: str) -> str:
    sentences = text.split(". ")
    words = ". ".join(sentences[first.value :]).rstrip(".").split()
    return " ".join(words[: most.value]) + end.value


def rank(shown: dict, question: str) -> Ranking:
    """Those with the number before the others; then the plain ones; then the shorter ones."""

    def goodness(text: str) -> float:
        return 1000 * any(c.isdigit() for c in text) + 500 * (not text.endswith(("!!!", "..."))) - len(text)

    return Ranking.by_score({one: goodness(text) for one, text in shown.items()})


# People instead, in a form in the browser: ranker = FormRanker("rankings.db")
# A language model: ranker = JudgeRanker(llm, instruction="Rank the summaries: what matters, in few words.")
ranker = ProgramRanker(rank)

if __name__ == "__main__":
    result = optimize(
        summary,
        TEXTS,
        feedback=ranker,
        optimizer={"kind": "random", "candidates": 4},
        validation=HELD_OUT,
        budget=Budget(evaluations=80),
    )
    print(result)
    answers = Path(result.run_dir, "rankings.jsonl").read_text(encoding="utf-8").splitlines()
    print(f"questions asked: {len(answers)}")
    result.reset("before")
    print(f"before: {summary(HELD_OUT[0])}")
    result.reset("after")
    print(f"after:  {summary(HELD_OUT[0])}")
