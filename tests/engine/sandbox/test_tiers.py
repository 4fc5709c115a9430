"""The choice of a tier, and the self-test that a tier must pass first."""

import os
import sys
from pathlib import Path

import pytest

from engine.errors import SandboxUnavailable
from engine.sandbox import Sandbox, spawn, tiers
from engine.sandbox.inside import landlock
from engine.sandbox.runner import StartFailed


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not tried anything yet."""
    monkeypatch.setattr(tiers, "_passed", set())
    monkeypatch.setattr(tiers, "_reasons", {})


def changed(monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str) -> None:
    """Run the inside with a line of it changed."""
    texts = dict(spawn._texts())
    name = f"engine.sandbox.inside.{module}"
    assert old in texts[name]
    texts[name] = texts[name].replace(old, new)
    monkeypatch.setattr(spawn, "_texts", lambda: texts)


def test_a_tier_that_confines_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """All five escapes succeed where no child is confined, and the self-test names them."""
    changed(
        monkeypatch, "zygote", "if confinement is not None:\n            confinement.enter(parent)", "if False: pass"
    )
    with Sandbox(tier=sandbox.tier) as broken, pytest.raises(SandboxUnavailable, match=r"escaped: .*fork") as caught:
        broken.run("RESULT = 1")
    if sandbox.tier == "process":
        for escape in ("read a file", "open a socket", "fork", "signal the parent", "write a file"):
            assert escape in str(caught.value)


def test_a_child_that_cannot_be_confined_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, "lockdown", "        prctl(_PR_SET_NO_NEW_PRIVS, 1)\n", "        raise OSError('not today')\n")
    with Sandbox(tier="process") as broken, pytest.raises(SandboxUnavailable, match="not today"):
        broken.run("RESULT = 1")


@pytest.mark.parametrize("version", [0, 1, 4, 6])
def test_an_older_landlock_or_none_is_enough(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, version: int) -> None:
    """A kernel that knows less of Landlock: namespaces and the filter still keep what the self-test tries."""
    if version > landlock.version():
        pytest.skip(f"this kernel's Landlock is of version {landlock.version()}")
    changed(monkeypatch, "landlock", "return syscall(", f"return min({version}, 99) or 0 * syscall(")
    with Sandbox(tier=sandbox.tier) as older:
        assert older.run("RESULT = 1").value == 1
        assert older.run("open('/etc/passwd')").error.type in ("PermissionError", "FileNotFoundError")


def test_the_escapes_that_a_child_denies_are_seen_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-test that reports nothing while a file was written and a socket reached."""
    monkeypatch.setattr(tiers.selftest, "_ATTEMPTS", tiers.selftest._ATTEMPTS.replace("return True", "return False"))
    changed(
        monkeypatch, "zygote", "if confinement is not None:\n            confinement.enter(parent)", "if False: pass"
    )
    with Sandbox(tier="process") as broken, pytest.raises(SandboxUnavailable, match="open a socket, write a file"):
        broken.run("RESULT = 1")


def test_the_self_test_runs_once(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    made = []
    real = tiers.selftest.check
    monkeypatch.setattr(tiers.selftest, "check", lambda worker: (made.append(1), real(worker)))
    for _ in range(2):
        with Sandbox(tier=sandbox.tier) as mine:
            assert mine.run_twice("RESULT = 1").agrees
    assert made == [1]


def test_auto_takes_the_next_tier_and_remembers_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "bubblewrap", lambda: None)
    with Sandbox() as found:
        try:
            assert found.tier in ("process", "monty")
        except SandboxUnavailable:
            pytest.skip("no tier but namespaces is to be had here")
    assert tiers.reasons()["namespaces"] == "bubblewrap is not installed"
    monkeypatch.setattr(tiers, "bubblewrap", lambda: pytest.fail("it was tried before"))
    with Sandbox() as again:
        assert again.tier == found.tier


def test_a_tier_that_is_named_never_becomes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "bubblewrap", lambda: None)
    with Sandbox(tier="namespaces") as named, pytest.raises(SandboxUnavailable, match="bubblewrap") as caught:
        named.run("RESULT = 1")
    assert "pip install 'trace-engine[sandbox]'" in str(caught.value)
    assert caught.value.exit_code == 3


def test_bubblewrap_that_may_not_make_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with Sandbox(tier="namespaces") as named, pytest.raises(SandboxUnavailable, match="uid map: Permission denied"):
        named.run("RESULT = 1")


def test_nothing_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tier: str, hash_seed: int) -> None:
        raise StartFailed(f"no {tier} today")

    monkeypatch.setattr(tiers, "_tested", fail)
    with Sandbox() as none, pytest.raises(SandboxUnavailable) as caught:
        none.run("RESULT = 1")
    for tier in tiers.AUTOMATIC:
        assert f"{tier}: no {tier} today" in str(caught.value)


def test_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with Sandbox(tier="process") as mac, pytest.raises(SandboxUnavailable, match="darwin") as caught:
        mac.run("RESULT = 1")
    assert "Linux" in str(caught.value.next_step)
