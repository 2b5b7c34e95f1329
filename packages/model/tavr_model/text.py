"""Prompts to embeddings, the same for cached clips and for generation."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from tavr_model.shapes import TextEmbeds


@torch.no_grad()
def encode_prompt(
    text_encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerBase, prompt: str, max_tokens: int
) -> TextEmbeds:
    """Embeddings of a prompt without padding; longer prompts are cut at `max_tokens`."""
    tokens: Any = tokenizer([prompt], max_length=max_tokens, truncation=True, return_tensors="pt")
    return text_encoder(tokens["input_ids"].to(text_encoder.device)).last_hidden_state[0]
