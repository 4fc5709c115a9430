"""A tokenizer's tokens by what they may stand for inside JSON."""

from __future__ import annotations

import re
from typing import Any

import torch

_NUMERIC = re.compile(r"-?\d*\.?\d*")
# Not after a comma or bracket: those belong outside of the string, where the model would put them.
_CLOSING = re.compile(r'(?:[^"\\\x00-\x1f\x7f\ufffd]*[^"\\\x00-\x1f\x7f\ufffd,:;\[\](){}\s])?"')
_NOT_PLAIN = re.compile(r'["\\\x00-\x1f\x7f\ufffd]')


class Vocabulary:
    """Token ids by use. Needs a tokenizer whose tokens, put together, spell the text (all fast ones in use).

    plain: tokens that may stand in a string, `plain_length` characters each; closing: tokens that end one, with
    `closing_length` characters before their quote; numeric: texts of the tokens that numbers are made of.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.text = _texts(tokenizer)
        plain = [i for i, text in enumerate(self.text) if text and not _NOT_PLAIN.search(text)]
        closing = [i for i, text in enumerate(self.text) if _CLOSING.fullmatch(text)]
        self.plain, self.plain_length = torch.tensor(plain), torch.tensor([len(self.text[i]) for i in plain])
        self.closing, self.closing_length = (
            torch.tensor(closing),
            torch.tensor([len(self.text[i]) - 1 for i in closing]),
        )
        self.numeric = {i: text for i, text in enumerate(self.text) if text and _NUMERIC.fullmatch(text)}

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)] if text else []


def _texts(tokenizer: Any) -> list[str]:
    """What each token adds to a text; empty for special tokens."""
    # Decoded after another token, since some tokenizers drop the space of a text's first one.
    anchor = tokenizer.encode('"', add_special_tokens=False)[-1]
    start = tokenizer.decode([anchor], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    pairs = [[anchor, token] for token in range(len(tokenizer))]
    decoded = tokenizer.batch_decode(pairs, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text[len(start) :] if text.startswith(start) else "" for text in decoded]
