"""The tiny UMT5 and its tokenizer, loaded by the production classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tavr_synthetic.scenes import KINDS, sample_scene
from tavr_synthetic.zoo.tokenizer import captions, sentences, unigram_tokenizer
from transformers import AutoTokenizer, T5TokenizerFast, UMT5EncoderModel


@pytest.fixture(scope="module")
def encoder(zoo: Path) -> UMT5EncoderModel:
    return UMT5EncoderModel.from_pretrained(zoo / "text_encoder", dtype=torch.float32, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer(zoo: Path) -> object:
    return AutoTokenizer.from_pretrained(zoo / "tokenizer", local_files_only=True)


def test_pads_and_ends_like_umt5(tokenizer: AutoTokenizer, zoo: Path) -> None:
    text = "A person is talking in front of a navy wall."
    for loaded in (tokenizer, T5TokenizerFast.from_pretrained(zoo / "tokenizer", local_files_only=True)):
        batch = loaded([text, "short"], padding="max_length", max_length=32, truncation=True, return_tensors="pt")
        assert batch["input_ids"].shape == (2, 32)
        lengths = batch["attention_mask"].sum(1)
        assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 1)
        for row, length in zip(batch["input_ids"], lengths, strict=True):
            assert int(row[length - 1]) == 1
            assert (row[length:] == 0).all()


@pytest.mark.parametrize("text", ["Ein Mann spricht, 你好 😀 naïve café", "ALL CAPS & (symbols) #42", "x" * 300, ""])
def test_any_text_works(tokenizer: AutoTokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_captions_fit_the_text_length_of_the_base(tokenizer: AutoTokenizer) -> None:
    assert max(len(row) for row in tokenizer(captions(range(5_000_000, 5_000_100)))["input_ids"]) <= 96


def test_token_states_say_what_the_room_is(encoder: UMT5EncoderModel, tokenizer: AutoTokenizer) -> None:
    seeds = range(5_000_000, 5_000_360)
    batch = tokenizer(captions(seeds), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = ((states * mask).sum(1) / mask.sum(1)).numpy()
    rows = np.concatenate([(pooled - pooled.mean(0)) / pooled.std(0), np.ones((len(pooled), 1))], axis=1)
    labels = np.array([KINDS.index(sample_scene(seed + 500_000).kind) for seed in seeds])
    weights = np.linalg.solve(
        rows[:240].T @ rows[:240] + np.eye(rows.shape[1]), rows[:240].T @ np.eye(15)[labels[:240]]
    )
    assert ((rows[240:] @ weights).argmax(1) == labels[240:]).mean() > 0.9


def test_tokenizer_training_is_deterministic() -> None:
    texts = captions(range(200)) + sentences(100, 0)
    first, second = unigram_tokenizer(texts, 400), unigram_tokenizer(texts, 400)
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
