"""Facts of the game as a preference: a circle, ties, and everything else below the three hands."""

import itertools


def test_it_is_a_circle_and_every_other_word_loses(agent):
    beats = agent("rock_paper_scissors.py:beats")
    assert [
        beats("?", one, other) for one, other in (("rock", "scissors"), ("scissors", "paper"), ("paper", "rock"))
    ] == [1, 1, 1]
    assert beats("?", " Rock\nand more", "rock") == 0.5
    assert beats("?", "scissors", "a laser") == 1 and beats("?", "", "lava") == 0.5


def test_both_orders_agree(agent):
    beats = agent("rock_paper_scissors.py:beats")
    said = ("rock", "PAPER", " scissors\n", "lava", "", "rock paper")
    assert all(beats("?", one, other) + beats("?", other, one) == 1 for one, other in itertools.product(said, said))
