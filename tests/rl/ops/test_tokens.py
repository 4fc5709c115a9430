"""Prefix-tree log-probs equal plain ones, and plain ones the model's own, with gradients."""

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
)

from engine.errors import EnvironmentMissing, InputError
from engine.llm.models import model_path
from rl.ops.forward import attention_window, capability, layout_hidden, output_head, text_config, tree_mask
from rl.ops.layout import tree_layout
from rl.ops.tokens import (
    completion_mask,
    groups_logprobs,
    groups_logprobs_entropy,
    micro_batches,
    sequence_logprobs,
    shared_prefix_logprobs,
)

VOCABULARY = 61


def random_groups(prompts=3, completions=4, seed=0, stem=3):
    """Prompts with a common beginning; completions of several lengths, one of them twice, one empty."""
    source = random.Random(seed)

    def ids(n):
        return [source.randrange(3, VOCABULARY) for _ in range(n)]

    common = ids(stem)
    prompt_ids = [common + ids(2 + p) for p in range(prompts)]
    completion_ids = [[ids(source.randrange(1, 7)) for _ in range(completions)] for _ in prompt_ids]
    completion_ids[0][1] = list(completion_ids[0][0])
    completion_ids[-1][-1] = []
    return prompt_ids, completion_ids


def reference_logprobs(model, prompt_ids, completion_ids, temperature=1.0):
    """One forward a rollout, nothing shared, padded or dropped."""
    rows = []
    for prompt, group in zip(prompt_ids, completion_ids, strict=True):
        for completion in group:
            ids = torch.tensor([*prompt, *completion])
            logprobs = torch.log_softmax(model(ids[None]).logits[0] / temperature, -1)
            rows.append(logprobs[len(prompt) - 1 : len(ids) - 1].gather(1, ids[len(prompt) :, None])[:, 0])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def trained_gradients(model, values):
    """Gradient of a weighted sum, so that errors of different tokens do not cancel."""
    weights = torch.linspace(-1, 1, values.numel()).view_as(values)
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad((weights * values).sum(), trained)


def assert_same(model, ours, theirs):
    """Values to 1e-4, each gradient tensor to 1e-4 relative."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    for mine, other in zip(trained_gradients(model, ours), trained_gradients(model, theirs), strict=True):
        assert (mine - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("mode", ["shared", "plain"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_one_forward_a_rollout(attention, mode, temperature, make_llama):
    model, groups = make_llama(attention), random_groups()
    ours = groups_logprobs(model, *groups, mode=mode, temperature=temperature)
    assert_same(model, ours, reference_logprobs(model, *groups, temperature))


@pytest.mark.parametrize("mode", ["shared", "plain"])
def test_several_passes_and_chunks_change_nothing(mode, llama):
    groups = random_groups()
    whole, entropy = groups_logprobs_entropy(llama, *groups, mode=mode)
    parts, part_entropy = groups_logprobs_entropy(llama, *groups, mode=mode, max_tokens=16, max_logits=2 * VOCABULARY)
    assert_same(llama, parts, whole)
    torch.testing.assert_close(part_entropy, entropy)


def test_lora_adapters_get_the_same_gradients(make_llama):
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model, groups = get_peft_model(make_llama(), lora), random_groups()
    ours = groups_logprobs(model, *groups, mode="shared")
    assert_same(model, ours, reference_logprobs(model, *groups))
    assert any("lora" in name for name, p in model.named_parameters() if p.requires_grad)


def test_gradient_checkpointing_changes_nothing(llama):
    groups = random_groups()
    before = groups_logprobs(llama, *groups, mode="shared")
    gradients = trained_gradients(llama, before)
    llama.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    after = groups_logprobs(llama.train(), *groups, mode="shared")
    torch.testing.assert_close(trained_gradients(llama, after), gradients)


def test_shared_prefix_forwards_the_prompt_once(llama):
    prompt, completions = list(range(3, 33)), [[40, 2], [41, 2], [42, 43, 2]]
    sizes = []
    handle = llama.model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    capability(llama)
    sizes.clear()
    ours = shared_prefix_logprobs(llama, prompt, completions)
    handle.remove()
    assert sizes == [30 + 4]  # the prompt, and of each completion what another token follows
    assert_same(llama, ours, sequence_logprobs(llama, [prompt] * 3, completions))


def test_head_computes_completion_positions_only(llama):
    positions = []
    handle = llama.lm_head.register_forward_hook(lambda _m, _a, out: positions.append(out.shape[:-1].numel()))
    capability(llama)
    positions.clear()
    groups_logprobs(llama, [list(range(3, 33))], [[[40, 41, 2], [40, 42, 2]]])
    handle.remove()
    assert sum(positions) == 4  # after the prompt, after 40, after 40 41, after 40 42


def test_auto_shares_only_where_it_saves(llama):
    shapes = []
    llama.model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    capability(llama)
    shapes.clear()
    groups_logprobs(llama, [[4, 5, 6], [7, 8, 9]], [[[10, 11]], [[12, 13]]])
    groups_logprobs(llama, [[4, 5, 6]], [[[10, 11], [12, 13]]])
    assert shapes == [(2, 4), (1, 5)]


def test_entropy_is_that_of_the_distribution(llama):
    prompt, completion = [4, 5, 6], [7, 8]
    _, entropy = groups_logprobs_entropy(llama, [prompt], [[completion]], temperature=0.5)
    logits = llama(torch.tensor([prompt + completion])).logits[0, 2:4] / 0.5
    torch.testing.assert_close(entropy[0], torch.distributions.Categorical(logits=logits).entropy())
    assert not entropy.requires_grad


def test_autocast_stays_near_float32(llama):
    groups = random_groups()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = groups_logprobs(llama, *groups, mode="shared")
    torch.testing.assert_close(ours, reference_logprobs(llama, *groups), rtol=0, atol=0.15)
    assert ours.dtype == torch.float32


def test_groups_without_a_token(llama):
    assert groups_logprobs(llama, [[4]], [[[], []]]).shape == (2, 0)
    assert groups_logprobs(llama, [[4]], [[]]).shape == (0, 0)
    assert completion_mask([[[], []]]).shape == (2, 0)
    assert completion_mask([]).shape == (0, 0)


def test_mask_by_hand():
    assert completion_mask([[[1, 2], []], [[3]]]).tolist() == [[1, 1], [0, 0], [1, 0]]


def test_micro_batches_keep_order_and_budget():
    prompts, completions = [[1, 2, 3], [1, 2, 4], [9, 9, 9]], [[[5], [6]]] * 3
    assert micro_batches(prompts, completions, 8) == [[0, 1], [2]]
    assert micro_batches(prompts, completions, 1) == [[0], [1], [2]]
    assert micro_batches(prompts, completions, 100) == [[0, 1, 2]]


def small_models():
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": VOCABULARY, "initializer_range": 0.2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32}
    gpt2 = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY, initializer_range=0.2)
    return {
        "gemma": GemmaForCausalLM(GemmaConfig(**size, **heads)),
        "gpt2": GPT2LMHeadModel(gpt2),
        "mamba": MambaForCausalLM(MambaConfig(**size, state_size=4)),
    }


@pytest.mark.parametrize(("name", "takes_tree"), [("gemma", True), ("gpt2", True), ("mamba", False)])
def test_other_architectures_give_their_own_values(name, takes_tree):
    """Recurrent models mix what the mask should keep apart: seen by the probe, so plain rows are used."""
    model, groups = small_models()[name].eval(), random_groups()
    assert capability(model).prefix_tree is takes_tree
    torch.testing.assert_close(groups_logprobs(model, *groups), reference_logprobs(model, *groups), rtol=0, atol=1e-4)


def test_shared_is_refused_where_it_would_be_wrong():
    with pytest.raises(EnvironmentMissing, match="cannot forward a prefix tree") as refused:
        groups_logprobs(small_models()["mamba"], [[4, 5]], [[[6], [7]]], mode="shared")
    assert "'plain'" in str(refused.value)


class CappedHead(nn.Module):
    """A model whose logits are not its head's output, as in Gemma 2; and which takes no mask."""

    def __init__(self, inner, takes_mask=True):
        super().__init__()
        self.inner, self.config, self.takes_mask = inner, inner.config, takes_mask

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def forward(self, attention_mask=None, **inputs):
        if not self.takes_mask and attention_mask is not None and attention_mask.dim() == 4:
            raise ValueError("wrong shape of attention_mask")
        output = self.inner(attention_mask=attention_mask, **inputs)
        output.logits = torch.tanh(output.logits / 3) * 3
        return output


@pytest.mark.parametrize("takes_mask", [True, False])
def test_logits_changed_after_the_head_are_respected(takes_mask, llama):
    model, groups = CappedHead(llama, takes_mask), random_groups()
    assert capability(model).plain_head is False
    assert capability(model).prefix_tree is takes_mask

    def forward_one(ids):
        return model(input_ids=ids)

    assert_same(model, groups_logprobs(model, *groups), reference_logprobs(forward_one, *groups))


def test_a_window_shorter_than_the_rollout_means_plain_rows(llama):
    groups = [[4, 5, 6, 7]], [[[8, 9], [10, 11]]]
    llama.config.sliding_window = 5
    assert attention_window(llama) == 5
    with pytest.raises(EnvironmentMissing):
        groups_logprobs(llama, *groups, mode="shared")
    llama.config.use_sliding_window = False
    assert attention_window(llama) is None
    assert groups_logprobs(llama, *groups, mode="shared").shape == (2, 2)


def test_the_probe_leaves_modes_as_they_were(llama):
    llama.train()
    llama.model.layers[0].eval()
    before = [module.training for module in llama.modules()]
    capability(llama)
    assert [module.training for module in llama.modules()] == before


def test_a_wrapped_model_is_called_through_its_wrapper(llama):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self, **inputs):
            self.calls += 1
            return self.module(**inputs)

    model, groups = Wrapper(llama), random_groups()
    ours = groups_logprobs(model, *groups, mode="shared")
    assert model.calls and text_config(model).vocab_size == VOCABULARY
    torch.testing.assert_close(ours, groups_logprobs(llama, *groups, mode="plain"), rtol=0, atol=1e-4)


def test_models_without_a_head_are_refused(llama):
    with pytest.raises(InputError, match="LlamaModel has no LM head"):
        output_head(llama.model)


def test_the_head_is_whole_again_after_an_error(llama):
    layout = tree_layout([((4,), (5,))])
    object.__setattr__(layout, "ids", torch.tensor([[VOCABULARY + 1]]))
    with pytest.raises(IndexError):
        layout_hidden(llama, layout)
    assert llama(torch.tensor([[4]])).logits.shape == (1, 1, VOCABULARY)


def test_block_mask_is_the_dense_mask():
    ends = tree_layout([((4, 5), (6, 7, 8)), ((4, 5), (6, 9, 8)), ((4, 3), (6, 7))]).ends
    dense = tree_mask(ends, "sdpa", torch.float32)
    block = tree_mask(ends, "flex_attention", torch.float32)
    index = torch.arange(len(ends))
    assert torch.equal(block.mask_mod(0, 0, index[:, None], index), dense[0, 0])
    eager = tree_mask(ends, "eager", torch.float32)
    assert torch.equal(eager == 0, dense) and (eager.masked_fill(dense, -1) < -1e30).sum() == (~dense).sum()


@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")  # transformers' call
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")  # meant
def test_flex_attention_equals_rows_on_cpu(make_llama):
    """Values only, uncompiled: torch has no backward pass of flex attention on the CPU."""
    groups = random_groups()
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        ours = groups_logprobs(make_llama("flex_attention"), *groups, mode="shared")
    torch.testing.assert_close(ours, groups_logprobs(make_llama(), *groups, mode="plain"), rtol=0, atol=1e-4)


@pytest.mark.gpu
def test_flex_attention_equals_rows_on_gpu(make_llama):
    flex, dense, groups = make_llama("flex_attention").cuda(), make_llama().cuda(), random_groups()
    ours = groups_logprobs(flex, *groups, mode="shared")
    theirs = groups_logprobs(dense, *groups, mode="plain")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    for mine, other in zip(trained_gradients(flex, ours), trained_gradients(dense, theirs), strict=True):
        assert (mine - other).norm() <= 1e-3 * other.norm()


@pytest.mark.model
def test_embedded_model_gives_the_same_values_and_gradients():
    """SmolLM2 in float32: values to 1e-4, each gradient tensor to 1e-4 relative."""
    model = AutoModelForCausalLM.from_pretrained(model_path("smollm2-135m"), dtype=torch.float32)
    source = random.Random(0)
    prompts = [[source.randrange(49152) for _ in range(n)] for n in (12, 9)]
    completions = [[[source.randrange(49152) for _ in range(n)] for n in (3, 1, 4)] for _ in prompts]
    ours = groups_logprobs(model, prompts, completions, mode="shared")
    assert_same(model, ours, groups_logprobs(model, prompts, completions, mode="plain"))


def test_gradients_are_the_same_bits_every_time(make_llama):
    """Equal completions share nodes, whose gradients add up: more than torch adds serially by indexing."""
    model = make_llama(max_position_embeddings=1024)
    groups = [[4, 5]], [[[6, 7] * 400] * 50]
    first, *others = (trained_gradients(model, groups_logprobs(model, *groups)) for _ in range(3))
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
