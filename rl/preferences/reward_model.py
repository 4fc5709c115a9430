"""A reward model: a sequence classifier whose one output is the score of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from engine.config import Config
from engine.errors import ConfigError, EnvironmentMissing
from engine.llm.models import model_path
from rl.lazy import torch
from rl.preferences.base import Contest, Preference, Verdict
from rl.preferences.rewards import bradley_terry
from rl.types import Prompt


class RewardModelConfig(Config):
    """`model`: a folder or a hub id of a transformers sequence classifier with one output.

    `max_tokens`: of prompt and completion together; of longer ones the end counts. `batch_size`: texts at once.
    `scale`: the difference of scores that counts as odds of e; 1 for a model trained by Bradley-Terry.
    """

    kind: Literal["reward_model"] = "reward_model"
    model: str
    scale: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=8, ge=1)


class RewardModel(Preference):
    """C_ij = sigmoid((s_i - s_j) / scale) with the model's scores s (Bradley-Terry). Always transitive.

    A chat prompt goes through the model's own chat template, with the completion as the assistant's message; a
    text prompt and its completion are joined. The model is loaded, on the GPU where there is one, at the first use.
    """

    _model: Any = None
    _tokenizer: Any = None

    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        keys = dict.fromkeys((n, text) for n, contest in enumerate(contests) for text in contest.texts)
        scores = dict(zip(keys, self.scores([(contests[n].prompt, text) for n, text in keys]), strict=True))
        return [
            [
                Verdict(bradley_terry((scores[n, c.texts[i]] - scores[n, c.texts[j]]) / self.config.scale))
                for i, j in c.pairs
            ]
            for n, c in enumerate(contests)
        ]

    def scores(self, rows: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The model's score of each (prompt, completion)."""
        if self._model is None:
            self._load()
        encoded = [self._encoded(prompt, text) for prompt, text in rows]
        order = sorted(range(len(rows)), key=lambda i: len(encoded[i]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self.config.batch_size):
            places = order[start : start + self.config.batch_size]
            padded = self._tokenizer.pad({"input_ids": [encoded[i] for i in places]}, return_tensors="pt")
            with torch.no_grad():
                logits = self._model(**padded.to(self._model.device)).logits
            for place, score in zip(places, logits[:, 0].float().tolist(), strict=True):
                scores[place] = score
        return scores

    def _encoded(self, prompt: Prompt, text: str) -> list[int]:
        if isinstance(prompt.prompt, str):
            ids = self._tokenizer(prompt.prompt + text)["input_ids"]
        else:
            chat = [*prompt.prompt, {"role": "assistant", "content": text}]
            ids = self._tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
        return list(ids[-self.config.max_tokens :])

    def _load(self) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        path = model_path(self.config.model)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForSequenceClassification.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise EnvironmentMissing(
                f"'{self.config.model}' cannot be loaded as a reward model: {str(error).splitlines()[0]}",
                next_step="correct method.preference.model",
            ) from None
        if model.config.num_labels != 1:
            raise ConfigError(
                f"the reward model '{self.config.model}' has {model.config.num_labels} outputs",
                allowed="a sequence classifier with one output, the score",
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
