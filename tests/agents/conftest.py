from pathlib import Path

import pytest

from engine import gallery

FOLDER = Path(__file__).resolve().parents[2] / "agents"


@pytest.fixture
def agent():
    """An object of an agent's file by reference, as a config names it: agent("judge.py:judge")."""
    return lambda reference: gallery.load(f"{FOLDER}/{reference}")
