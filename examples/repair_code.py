"""Repair a function: its source is the parameter, and its tests are the examples.

    python examples/repair_code.py

What is proposed runs in the sandbox, here and after the search, until the function is adopted. The proposals are
random edits of the source, so that this runs without a model; a model (`optimizer="optoprime"`, `llm=...`) reads the
failing tests instead.
"""

from engine import Budget, Feedback, optimize, trace

FEES = {0: 0, 1: 0, 2: 0, 3: 0, 4: 2, 5: 4, 6: 6, 7: 8, 8: 10, 9: 12, 10: 14, 12: 18, 13: 20, 14: 20, 30: 20}


@trace.node(trainable=True)
def late_fee(days: int) -> int:
    """Euros for a book that comes back late: nothing for 3 days, then 2 a day, at most 20."""
    if days < 3:
        return 0
    fee = 2 * (days - 4)
    return fee if fee < 20 else 20


def score(days: int, fee: int) -> Feedback:
    return Feedback(float(fee == FEES[days]), f"{days} days cost {FEES[days]}, not {fee}")


if __name__ == "__main__":
    result = optimize(
        late_fee, list(FEES), feedback=score, optimizer="random", budget=Budget(evaluations=64, invalid=500)
    )
    print(f"tests passed: {result.baseline:.0%} -> {result.score:.0%}")
    print(f"late_fee was written by the {late_fee.code.author}, runs in the sandbox, and says {late_fee(5)} for 5 days")
    print(result.diff())
    late_fee.code.adopt()
    print(f"adopted: late_fee is now the {late_fee.code.author}'s and runs in this process")
