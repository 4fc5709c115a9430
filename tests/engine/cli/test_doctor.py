"""What `engine doctor` says of the sandbox."""

import pytest

from engine.cli.doctor import _sandbox
from engine.sandbox import tiers


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "_reasons", {})


def test_the_tier_that_works_and_why_a_stronger_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "bubblewrap", lambda: None)
    found = _sandbox()
    assert found.name == "sandbox"
    assert "namespaces: " in found.state
    assert "bubblewrap is not installed" in found.state


def test_no_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tier: str, hash_seed: int) -> None:
        raise tiers.StartFailed(f"{tier} is broken")

    monkeypatch.setattr(tiers, "_tested", fail)
    found = _sandbox()
    assert found.fine is None
    assert found.state.startswith("none: ")
    assert "process is broken" in found.state
