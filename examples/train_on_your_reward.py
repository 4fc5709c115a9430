"""GRPO with a reward of your own: answers of one line, as short as possible.

    python examples/train_on_your_reward.py

Every reward function has TRL's signature. The reward here pays for a line break, and for its coming early.
"""

import rl


def reward(completions, **columns):
    """1 for an empty first line, less for a longer one, 0 without a line break."""
    return [1 - 0.1 * len(text.partition("\n")[0].split()) if "\n" in text else 0.0 for text in completions]


CONFIG = {
    "model": {"name": "smollm2-135m"},
    "method": {"kind": "grpo"},
    "source": {"kind": "arithmetic"},
    "rewards": [f"{__file__}:reward"],
    "policy": {"completions": 8, "max_tokens": 8},
    "trainer": {"steps": 5, "prompts": 4, "lr": 1e-5, "eval_every": 0, "save_every": 5, "keep": 1},
}

if __name__ == "__main__":
    run = rl.train(CONFIG)
    for row in run.metrics:
        print(f"step {row['step']}: mean reward {row['reward_mean']:.2f}, groups with signal {row['signal']:.2f}")
    print("the model:", run.model_path)
