"""The board and the rules of Battleship, and that its policy is code that feedback reaches."""

import pytest

from engine import trace

BOARD = ["####..", "......", ".#....", ".#....", ".#..##", "......"]


def test_shots_in_reading_order_hit_what_lies_in_the_first_three_rows(agent):
    assert agent("battleship.py:play")(BOARD) == 5 / 9
    assert agent("battleship.py:judge")(BOARD, 5 / 9).text.startswith("56% of the ships")


def test_a_shot_shows_one_cell(agent):
    shoot, blank = agent("battleship.py:shoot"), ["." * 6] * 6
    assert shoot(BOARD, blank, [0, 1])[0] == ".x...." and shoot(BOARD, blank, [5, 5])[5] == ".....o"
    with pytest.raises(ValueError, match=r"there is no cell \[6, 0\]"):
        shoot(BOARD, blank, [6, 0])
    with pytest.raises(ValueError, match="was shot at before"):
        shoot(BOARD, shoot(BOARD, blank, [0, 1]), [0, 1])


def test_boards_hold_the_ships_and_are_the_same_for_a_seed(agent):
    boards = agent("battleship.py:boards")
    assert boards(4) == boards(9)[:4] and boards(4) != boards(4, seed=1)
    for board in boards(30):
        assert [len(row) for row in board] == [6] * 6 and sum(row.count("#") for row in board) == 9
        lines = ["".join(line) for line in (*board, *zip(*board, strict=True))]
        assert any("####" in line for line in lines)


def test_feedback_reaches_the_policy(agent):
    with trace.record():
        output = agent("battleship.py:play")(BOARD)
    (param,) = trace.backward(output, "more")
    assert (param.name, param.kind) == ("choose", "code") and "not shot yet" in param.description
