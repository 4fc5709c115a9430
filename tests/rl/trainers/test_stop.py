"""A request to stop: what counts as one, and what the second one does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.trainers import stop
from rl.trainers.stop import StopRequest


def test_a_signal_that_comes_twice_at_once_is_one_request(tmp_path: Path) -> None:
    with StopRequest(tmp_path) as request:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # with Python's own handler the process would be gone
        assert request.reason == "SIGTERM"
        assert request.raised(3, tmp_path).exit_code == 143


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler of SIGINT, which it does not install where a shell starts it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_later_signal_is_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "SAME_REQUEST_S", -1.0)
    with StopRequest(tmp_path) as request:
        signal.raise_signal(signal.SIGINT)
        assert request.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_file_asks_too_and_is_taken_away(tmp_path: Path) -> None:
    with StopRequest(tmp_path) as request:
        assert request.reason is None
        (tmp_path / "STOP").touch()
        assert "STOP" in (request.reason or "")
        assert request.raised(3, tmp_path).exit_code == 75
        assert request.reason is None
