"""The policy on a real server: the same outputs as the local policy, and the weights that it was given."""

from __future__ import annotations

import json
import random
import re
import urllib.request
from itertools import chain
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engine.errors import ConfigError, InputError, LLMUnavailable
from engine.llm.spec import resolve
from rl.policies._vllm import endpoint
from rl.policies._vllm.endpoint import Endpoint
from rl.policies._vllm.launch import OwnServer
from rl.policies._vllm.probe import Mismatch, served_difference, trainer_scores
from rl.policies.local import LocalPolicy
from rl.types import Request, Structure
from tests.rl.policies.vllm.conftest import CONTEXT, KEY, Policy, changed

pytestmark = pytest.mark.vllm

PROMPTS = [(5, 6, 7), (9, 8, 7, 6, 5, 4, 3), (1,), tuple(range(40, 200))]


def ids(groups: Any) -> list[list[tuple[int, ...]]]:
    return [[rollout.completion_ids for rollout in group] for group in groups]


def test_greedy_completions_are_those_of_the_local_policy(policy: Policy, server: OwnServer, base: Any, tokenizer: Any):
    requests = [Request(p, 2, 12 + i, seed=i, temperature=0) for i, p in enumerate(PROMPTS)]
    vllm = policy(server.url)
    for seed in (1, 2):
        model = changed(base, seed)
        vllm.sync(model, seed)
        ours, local = vllm.generate(requests), LocalPolicy(model, tokenizer).generate(requests)
        assert ids(ours) == ids(local)
        for mine, theirs in zip(chain(*ours), chain(*local), strict=True):
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
            assert (mine.text, mine.finish_reason, mine.weight_version) == (theirs.text, theirs.finish_reason, seed)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_teacher_forced_forward(
    policy: Policy, server: OwnServer, base: Any, temperature: float
):
    model = changed(base, 3)
    vllm = policy(server.url)
    vllm.sync(model, 1)
    requests = [Request(p, 4, 20, seed=i, temperature=temperature) for i, p in enumerate(PROMPTS)]
    model.eval()
    for prompt, group in zip(PROMPTS, vllm.generate(requests), strict=True):
        assert len({rollout.completion_ids for rollout in group}) == 4
        for rollout in group:
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *rollout.completion_ids]])).logits[0, len(prompt) - 1 : -1]
            rows = (logits / temperature).log_softmax(-1)
            expected = rows[range(len(rollout.completion_ids)), list(rollout.completion_ids)].tolist()
            assert rollout.logprobs == pytest.approx(expected, abs=1e-3)


def test_a_completion_depends_on_its_seed_and_index_alone(policy: Policy, server: OwnServer):
    vllm = policy(server.url)
    requests = [Request(p, 3, 16, seed=100 + i) for i, p in enumerate(PROMPTS)]
    state = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    together = ids(vllm.generate(requests))
    assert together == [ids(vllm.generate([request]))[0] for request in requests]
    assert ids(vllm.generate([Request(PROMPTS[0], 5, 16, seed=100)]))[0][:3] == together[0]
    assert ids(vllm.generate([Request(PROMPTS[0], 3, 16, seed=7)]))[0] != together[0]
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), numpy.random.get_state()[1].tolist())


def test_end_tokens_and_limits(policy: Policy, server: OwnServer, tokenizer: Any):
    [group] = policy(server.url).generate([Request(PROMPTS[0], 200, 30, seed=5, temperature=2.0)])
    assert {rollout.finish_reason for rollout in group} == {"stop", "length"}
    for rollout in group:
        assert 256 not in rollout.completion_ids[:-1]
        assert (rollout.completion_ids[-1] == 256) == (rollout.finish_reason == "stop")
        assert len(rollout.completion_ids) == len(rollout.logprobs) <= 30
        assert rollout.text == tokenizer.decode([i for i in rollout.completion_ids if i != 256])


def test_stop_strings_cut_the_text_and_keep_the_token_that_completed_them(policy: Policy, server: OwnServer):
    vllm = policy(server.url)
    free = vllm.generate([Request(PROMPTS[0], 40, 40, seed=2)])[0]
    texts = [rollout.text for rollout in free]
    stops = tuple({t[i : i + 2] for t in texts for i in (6, 9) if t[i : i + 2].isascii() and len(t) > 12})[:4]
    assert stops
    stopped = vllm.generate([Request(PROMPTS[0], 40, 40, seed=2, stop=stops)])[0]
    assert sum(a.completion_ids != b.completion_ids for a, b in zip(free, stopped, strict=True)) > 3
    for a, b in zip(free, stopped, strict=True):
        places = [a.text.find(s) for s in stops if s in a.text]
        assert b.text == (a.text[: min(places)] if places else a.text)
        assert b.completion_ids == a.completion_ids[: len(b.completion_ids)]
        assert len(b.logprobs) == len(b.completion_ids)
        if places:
            assert b.finish_reason == "stop"
            assert len(bytes(b.completion_ids)) >= min(places)


def test_what_cannot_be_served_is_a_rollout_and_not_a_crash(policy: Policy, server: OwnServer):
    long, empty, unknown, fine = (7,) * CONTEXT, (), (300,), (7,) * (CONTEXT - 2)
    groups = policy(server.url).generate([Request(p, 2, 8, seed=0) for p in (long, empty, unknown, fine)])
    assert [[r.finish_reason for r in group] for group in groups[:3]] == [["error"] * 2] * 3
    assert groups[0][0].error == f"the prompt has {CONTEXT} tokens; the model's context is {CONTEXT}"
    assert groups[1][0].error == "the prompt has no tokens"
    assert "out of vocabulary" in groups[2][0].error
    assert [len(r.completion_ids) for r in groups[3]] == [2, 2]


def test_more_prompt_tokens_than_a_step_of_the_engine_takes(policy: Policy, server: OwnServer):
    """With vLLM's chunked prefill seeded requests like these kill its engine on a CPU."""
    requests = [Request(tuple((i + j) % 250 for j in range(200)), 4, 3, seed=i) for i in range(48)]
    groups = policy(server.url).generate(requests)
    assert [[len(rollout.completion_ids) for rollout in group] for group in groups] == [[3] * 4] * 48


@pytest.mark.parametrize(
    ("structure", "pattern"),
    [
        (Structure("regex", "[0-9]{3}-[0-9]{2}"), r"\d{3}-\d{2}"),
        (Structure("choice", ("left", "right", "straight on")), r"left|right|straight on"),
        (Structure("json", '{"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}'),
         r'\{\s*"on"\s*:\s*(true|false)\s*\}'),
        (Structure("grammar", 'root ::= "yes" | "no"'), "yes|no"),
    ],
)  # fmt: skip
def test_completions_are_held_to_a_structure(policy: Policy, server: OwnServer, structure: Structure, pattern: str):
    """A random model that says none of this by itself; log-probs are of what the structure leaves."""
    [group] = policy(server.url).generate([Request(PROMPTS[0], 4, 60, seed=3, structure=structure)])
    assert all(re.fullmatch(pattern, rollout.text) for rollout in group), [r.text for r in group]
    assert {rollout.finish_reason for rollout in group} == {"stop"}
    if structure.kind == "regex":
        assert all(rollout.logprobs[3] == pytest.approx(0.0, abs=1e-4) for rollout in group)  # nothing but "-" is left


def test_a_structure_that_is_none_is_a_rollout_and_not_a_crash(policy: Policy, server: OwnServer):
    [group] = policy(server.url).generate([Request(PROMPTS[0], 2, 8, seed=0, structure=Structure("regex", "([0-9]"))])
    assert [rollout.finish_reason for rollout in group] == ["error"] * 2 and group[0].error


def test_nonsense_settings_are_refused(policy: Policy, server: OwnServer):
    with pytest.raises(InputError, match=r"policy.top_p is 0"):
        policy(server.url).generate([Request((1,), 1, 1, 0, top_p=0.0)])


def rpc(server: OwnServer, method: str, **arguments: Any) -> None:
    """One of vLLM's own worker methods."""
    body = json.dumps({"method": method, "kwargs": arguments}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/collective_rpc", body, headers), timeout=60).read()


def test_trap_1_the_tied_head_that_vllm_leaves_stale_is_renewed(
    policy: Policy, server: OwnServer, base: Any, tmp_path: Path
):
    """vLLM's own reload of changed weights is silent and wrong here; the probe finds it, and our push cures it."""
    vllm, model = policy(server.url), changed(base, 4)
    vllm.sync(base, 1)
    model.save_pretrained(tmp_path / "changed")
    rpc(server, "reload_weights", weights_path=str(tmp_path / "changed"))
    client, served = Endpoint(server.url, KEY), vllm.backend
    client.reset_cache(30)
    scores = trainer_scores(model, served.ids, None)
    alone = served_difference(lambda body: client.complete(body, 60), served._base, served.ids, scores)
    assert alone.own > 0.01
    with pytest.raises(Mismatch, match=r"mean \|difference\| 0\."):
        alone.require(1e-3, server.url)
    vllm.sync(model, 2)
    found = served.differences[server.url]
    assert found.own < 1e-3 and found.cached < 1e-3


def test_trap_2_the_prefix_cache_is_reset(
    policy: Policy, server: OwnServer, base: Any, monkeypatch: pytest.MonkeyPatch
):
    """Without the reset only what comes from the cache is wrong: the probe sees that too."""
    vllm = policy(server.url)
    vllm.sync(base, 1)
    with monkeypatch.context() as without:
        without.setattr(Endpoint, "reset_cache", lambda self, timeout_s: None)
        without.setattr(endpoint, "PAUSE", "/pause?mode=wait&clear_cache=false")  # which vLLM calls deprecated
        with pytest.raises(Mismatch, match="prefix cache"):
            vllm.sync(changed(base, 5), 2)
    found = vllm.backend.differences[server.url]
    assert found.own < 1e-3 and found.cached > 0.01
    vllm.sync(changed(base, 5), 3)
    assert vllm.backend.differences[server.url].cached < 1e-3


def test_trap_3_weights_of_another_shape_are_refused_before_the_engine_is_touched(
    policy: Policy, server: OwnServer, base: Any
):
    vllm = policy(server.url)
    vllm.sync(base, 1)
    request = Request(PROMPTS[0], 3, 10, seed=1)
    before = vllm.generate([request])
    config = LlamaConfig(**{**base.config.to_dict(), "intermediate_size": 96})
    with pytest.raises(ConfigError, match=r"another than the trained one.*mlp.*shape \[96, 64\]"):
        vllm.sync(LlamaForCausalLM(config), 2)
    other = policy(server.url)
    other.sync(base, 1)
    assert ids(other.generate([request])) == ids(before)


def test_a_server_that_another_run_gave_weights_gets_ours_back(policy: Policy, server: OwnServer, base: Any):
    """As a server that was restarted: its version is not ours, so it is given the weights before it is asked."""
    mine, other = policy(server.url), policy(server.url)
    mine.sync(changed(base, 6), 1)
    request = Request(PROMPTS[1], 3, 12, seed=4)
    before = ids(mine.generate([request]))
    other.sync(changed(base, 7), 1)
    assert ids(other.generate([request])) != before
    assert ids(mine.generate([request])) == before


def test_the_probe_stops_a_run_whose_weights_changed_on_the_way(
    policy: Policy, server: OwnServer, base: Any, monkeypatch: pytest.MonkeyPatch
):
    from rl.policies._vllm import routes

    def falsified(model: Any, dtype: torch.dtype, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(changed(model, 8).named_parameters()), path)
        return path

    monkeypatch.setattr(routes, "write_weights", falsified)
    with pytest.raises(Mismatch, match=r"policy\.vllm\.tolerance"):
        policy(server.url).sync(base, 1)


def test_a_wrong_key_and_a_wrong_model_are_told(policy: Policy, server: OwnServer, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(LLMUnavailable, match=r"has no model 'gpt-9'"):
        policy(server.url, served="gpt-9")
    monkeypatch.setenv("VLLM_API_KEY", "wrong")
    with pytest.raises(LLMUnavailable, match="refuses the key"):
        policy(server.url)


def test_an_llm_of_the_engine_can_be_the_policy(
    policy: Policy, server: OwnServer, base: Any, monkeypatch: pytest.MonkeyPatch
):
    """As the proposer of optimize(), say; the server holds even a random model's answer to the schema."""
    vllm = policy(server.url)
    vllm.sync(changed(base, 9), 1)
    monkeypatch.setenv("ENGINE_LLM_API_KEY", KEY)
    llm = resolve(f"{server.url}/v1#{vllm.backend._base}")
    schema = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"]}
    answer = llm.complete([{"role": "user", "content": "Which side?"}], schema=schema, n=6, seed=1, max_tokens=60)
    assert {json.loads(text)["side"] for text in answer.texts} == {"left", "right"}


def test_any_client_can_use_the_policy_while_it_trains(policy: Policy, server: OwnServer, base: Any, tokenizer: Any):
    from openai import OpenAI

    model = changed(base, 9)
    vllm = policy(server.url)
    vllm.sync(model, 1)
    with OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        name = client.models.list().data[0].id
        text = client.completions.create(model=name, prompt="abc", max_tokens=8, temperature=0).choices[0].text
    prompt = tuple(tokenizer("abc")["input_ids"])
    [[local]] = LocalPolicy(model, tokenizer).generate([Request(prompt, 1, 8, 0, temperature=0)])
    assert text == local.text
