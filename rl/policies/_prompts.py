"""Prompts as token ids: the one place where text and chat messages are tokenized."""

from __future__ import annotations

from typing import Any

from engine.errors import InputError


def encode_prompt(tokenizer: Any, prompt: str | list[dict[str, Any]], prefix: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The token ids that a completion continues.

    Text is tokenized with the special tokens that the tokenizer adds by itself (a BOS token, for
    some models). Chat messages go through the tokenizer's chat template, which opens the
    assistant's turn. prefix: ids to put before it, after a BOS token.
    Raises InputError for a chat prompt where the tokenizer has no template.
    """
    if prefix:
        ids = encode_prompt(tokenizer, prompt)
        start = int(ids[:1] == (tokenizer.bos_token_id,))
        return (*ids[:start], *prefix, *ids[start:])
    if isinstance(prompt, str):
        return tuple(tokenizer(prompt)["input_ids"])
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the prompt is a chat, and the tokenizer {tokenizer.name_or_path or ''} has no chat template",
            next_step="use an instruction-tuned model, set tokenizer.chat_template, or give prompts as text",
        )
    return tuple(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False))
