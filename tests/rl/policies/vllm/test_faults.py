"""Servers that are killed, hang, answer 500 or take no weights: nothing is lost, nothing comes twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
import torch

from engine.errors import EnvironmentMissing, LLMUnavailable, Stopped
from rl.policies._vllm import routes
from rl.policies._vllm.launch import OwnServer
from rl.policies._vllm.settings import VllmConfig
from rl.policies.vllm import VllmPolicy
from rl.types import Request
from tests.rl.policies.vllm.conftest import CONTEXT, Policy, changed, free_port, serving

pytestmark = pytest.mark.vllm

BATCH = [Request((i, i + 1, 7), 4, 150, seed=1000 + i) for i in range(24)]


@pytest.fixture(scope="module")
def mortal(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server that tests stop and kill; whoever kills it starts it again."""
    with serving(tiny, tmp_path_factory.mktemp("mortal") / "vllm.log") as server:
        yield server


def completions(groups: Any) -> list[list[tuple[int, ...]]]:
    return [[rollout.completion_ids for rollout in group] for group in groups]


def started(work: Callable[[], Any]) -> Future[Any]:
    """The work in a thread."""
    with_thread = ThreadPoolExecutor(max_workers=1)
    future = with_thread.submit(work)
    with_thread.shutdown(wait=False)
    return future


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def running(server: OwnServer) -> bool:
    """Whether the server is generating."""
    text = urlopen(f"{server.url}/metrics", timeout=10).read().decode()
    rows = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    return any(float(row.split()[-1]) > 0 for row in rows)


def signalled(server: OwnServer, number: signal.Signals) -> None:
    assert server.process is not None
    os.killpg(server.process.pid, number)


def test_a_server_that_hangs_is_waited_for(policy: Policy, mortal: OwnServer, base: Any):
    said: list[str] = []
    vllm = policy(mortal.url, say=said.append, request_timeout_s=5, restart_timeout_s=60)
    vllm.sync(changed(base, 1), 1)
    expected = completions(vllm.generate(BATCH))
    work = started(lambda: vllm.generate(BATCH))
    wait_for(lambda: running(mortal))
    signalled(mortal, signal.SIGSTOP)
    wait_for(lambda: any("no answer within 5 s" in line for line in said))
    signalled(mortal, signal.SIGCONT)
    assert completions(work.result(120)) == expected
    assert any("24 prompts of the batch are still to be sampled" in line for line in said)


def test_a_push_to_a_server_that_hangs_ends_within_its_timeout(policy: Policy, mortal: OwnServer, base: Any):
    vllm = policy(mortal.url, sync_timeout_s=2, restart_timeout_s=3)
    signalled(mortal, signal.SIGSTOP)
    try:
        with pytest.raises(Stopped, match=r"no vLLM server came back within 3 s") as caught:
            vllm.sync(changed(base, 2), 1)
    finally:
        signalled(mortal, signal.SIGCONT)
    assert caught.value.exit_code == 75


class Between(BaseHTTPRequestHandler):
    """Hands everything on to the real server, but for the faults that a test put into `faults`."""

    protocol_version = "HTTP/1.1"
    target = ""
    faults: list[int] = []
    lock = threading.Lock()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            status = self.faults.pop() if self.faults and self.path == "/v1/completions" else 0
        if status:
            self.answer(status, b'{"error": {"message": "something broke"}}')
            return
        request = HttpRequest(self.target + self.path, data=body or None, method=self.command)
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=60) as answer:
            self.answer(answer.status, answer.read())

    do_POST = do_GET

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def between(mortal: OwnServer) -> Iterator[str]:
    Between.target, Between.faults = mortal.url, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()
        thread.join()


def test_answers_of_500_are_asked_for_again(policy: Policy, between: str, base: Any):
    said: list[str] = []
    vllm = policy(between, say=said.append)
    vllm.sync(changed(base, 3), 1)
    expected = completions(vllm.generate(BATCH))
    Between.faults.extend([500] * 30)
    assert completions(vllm.generate(BATCH)) == expected
    assert any("HTTP 500: something broke" in line for line in said)


def test_a_server_that_answers_nothing_but_500_stops_the_run(policy: Policy, between: str):
    vllm = policy(between)
    Between.faults.extend([503] * 1000)
    with pytest.raises(Stopped, match=r"3 attempts in a row(.|\n)*HTTP 503") as caught:
        vllm.generate(BATCH)
    assert caught.value.exit_code == 75


def test_a_key_that_is_refused_in_the_middle_is_told(policy: Policy, between: str):
    vllm = policy(between)
    Between.faults.append(401)
    with pytest.raises(LLMUnavailable, match="refuses the key"):
        vllm.generate(BATCH)


def broken(model: Any, dtype: torch.dtype, path: Path) -> Path:
    """A file that was cut off."""
    real = routes.__dict__["_real_write_weights"](model, dtype, path)
    real.write_bytes(real.read_bytes()[: real.stat().st_size // 2])
    return real


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(routes, "_real_write_weights", routes.write_weights, raising=False)
    monkeypatch.setattr(routes, "write_weights", broken)
    return monkeypatch


def test_trap_3_an_update_that_fails_stops_the_run(
    policy: Policy, mortal: OwnServer, base: Any, damaged: pytest.MonkeyPatch
):
    vllm = policy(mortal.url)
    with pytest.raises(Stopped, match=r"refused the weights; it must be started again") as caught:
        vllm.sync(base, 1)
    assert caught.value.exit_code == 75


def test_trap_4_a_server_killed_in_a_batch_and_started_again_gets_the_weights_and_the_rest(
    policy: Policy, mortal: OwnServer, base: Any
):
    signalled(mortal, signal.SIGKILL)  # the one whose update failed
    mortal.stop()
    mortal.start()
    said: list[str] = []
    vllm = policy(mortal.url, say=said.append, start_timeout_s=300, restart_timeout_s=300)
    base_completions = completions(vllm.generate(BATCH))
    vllm.sync(changed(base, 4), 7)
    expected = completions(vllm.generate(BATCH))
    assert expected != base_completions
    work = started(lambda: vllm.generate(BATCH))
    wait_for(lambda: running(mortal))
    signalled(mortal, signal.SIGKILL)
    mortal.stop()
    mortal.start()
    groups = work.result(300)
    assert completions(groups) == expected
    assert {rollout.weight_version for group in groups for rollout in group} == {7}
    assert any("waiting for vLLM" in line for line in said)


def test_a_server_that_stays_away_stops_the_run_resumable(policy: Policy, mortal: OwnServer):
    vllm = policy(mortal.url, restart_timeout_s=2)
    mortal.stop()
    with pytest.raises(Stopped, match="no vLLM server came back within 2 s") as caught:
        vllm.generate(BATCH)
    assert caught.value.exit_code == 75
    assert "--resume" in str(caught.value)


def test_a_port_in_use_is_told_before_anything_starts(base: Any, tokenizer: Any, tiny: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = VllmConfig(port=taken.getsockname()[1])
        with pytest.raises(EnvironmentMissing, match=r"Address already in use(.|\n)*policy\.vllm\.port="):
            VllmPolicy(base, tokenizer, model_path=str(tiny), settings=settings)


def test_no_server_at_the_address_is_told(policy: Policy):
    with pytest.raises(LLMUnavailable, match="no vLLM server answered within 1 s"):
        policy(f"http://127.0.0.1:{free_port()}", start_timeout_s=1)


def test_a_server_that_would_die_of_seeded_requests_is_refused(policy: Policy, tiny: Path, tmp_path: Path):
    with (
        serving(tiny, tmp_path / "vllm.log", "--enable-chunked-prefill") as chunking,
        pytest.raises(EnvironmentMissing, match="started without --no-enable-chunked-prefill"),
    ):
        policy(chunking.url)


def test_our_own_server_is_started_again_and_ends_with_us(
    base: Any, tokenizer: Any, tiny: Path, tmp_path: Path, damaged: pytest.MonkeyPatch
):
    """First its update fails, for a file that is whole again afterwards; then it is killed in a batch."""
    said: list[str] = []
    model = changed(base, 5)

    def say(line: str) -> None:
        if "refused the weights" in line:
            routes.__dict__["_real_write_weights"](model, torch.float32, vllm.backend.route.path)
        said.append(line)

    settings = VllmConfig(port=free_port(), context=CONTEXT, weights_dir=str(tmp_path / "weights"))
    options: dict[str, Any] = {"settings": settings, "log": tmp_path / "vllm.log", "say": say}
    with VllmPolicy(base, tokenizer, model_path=str(tiny), **options) as vllm:
        vllm.sync(model, 1)
        assert any("refused the weights" in line for line in said)
        own = vllm.backend.own
        expected = completions(vllm.generate(BATCH))
        work = started(lambda: vllm.generate(BATCH))
        wait_for(lambda: running(own))
        [server] = children(own.process.pid)
        os.kill(server, signal.SIGKILL)  # the API server alone: its engine is an orphan then
        assert completions(work.result(300)) == expected
        assert any("does not answer: starting it again" in line for line in said)
        group = own.process.pid
    wait_for(lambda: not living(group), 10)
    assert not list((tmp_path / "weights").iterdir())


OWNER = """
import sys, time
from pathlib import Path
from rl.policies._vllm.endpoint import Endpoint
from rl.policies._vllm.launch import OwnServer, server_command
from rl.policies._vllm.settings import VllmConfig
if __name__ == "__main__":
    model, port, log = sys.argv[1:]
    settings = VllmConfig(port=int(port), context=320)
    server = OwnServer(server_command(model, settings, dtype="float32"), settings, Path(log), lambda line: None)
    server.start()
    server.wait(Endpoint(server.url))
    print(server.process.pid, flush=True)
    time.sleep(600)
"""


def test_a_server_ends_with_its_owner_even_if_that_is_killed(tiny: Path, tmp_path: Path):
    arguments = [sys.executable, "-c", OWNER, str(tiny), str(free_port()), str(tmp_path / "vllm.log")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        group = int(owner.stdout.readline())
        assert len(living(group)) > 2  # the keeper, the API server, its engine
        owner.kill()
    wait_for(lambda: not living(group), 30)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def living(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    rows = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return [row[0] for row in rows if int(row[2]) == group and row[0] != "Z"]
