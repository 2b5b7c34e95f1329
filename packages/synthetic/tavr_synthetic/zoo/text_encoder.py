"""Train the tiny UMT5 text encoder and its tokenizer: `python -m tavr_synthetic.zoo.text_encoder --out DIR`.

Writes DIR/tokenizer (unless it is there) and DIR/text_encoder (UMT5EncoderModel, float16). The encoder learns by span
corruption (T5's objective) together with a one-layer decoder, which is thrown away; so its token states carry what a
caption says.
About four minutes on one thread. Prints measured quality on captions of people and rooms it never saw.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel, UMT5ForConditionalGeneration

from tavr_synthetic.scenes import KINDS, sample_scene
from tavr_synthetic.zoo.tokenizer import SENTINELS, captions, save_tokenizer, sentences, unigram_tokenizer

FIRST_TRAIN, FIRST_HELD_OUT = 1_000_000, 3_000_000
TRAIN_CAPTIONS, TRAIN_SENTENCES, HELD_OUT = 6000, 3000, 600
PIECES = 1000
CORRUPTED, MEAN_SPAN = 0.25, 2.0
BATCH = 48
IGNORED = -100
ARCHITECTURE: dict[str, Any] = {
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 160,
    "num_heads": 4,
    "num_layers": 3,
    "num_decoder_layers": 1,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
    "tie_word_embeddings": False,
}


def corrupt(ids: list[int], sentinel: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """T5's span corruption of one sequence that ends in `</s>`: (input with sentinels, the missing spans)."""
    inputs: list[int] = []
    targets: list[int] = []
    spans = 0
    position, last = 0, len(ids) - 1
    while position < last:
        if rng.random() < CORRUPTED / MEAN_SPAN and spans < SENTINELS:
            length = min(int(rng.integers(1, 2 * int(MEAN_SPAN))), last - position)
            inputs.append(sentinel - spans)
            targets += [sentinel - spans, *ids[position : position + length]]
            spans += 1
            position += length
        else:
            inputs.append(ids[position])
            position += 1
    return [*inputs, ids[-1]], [*targets, ids[-1]]


def padded(rows: list[list[int]], fill: int) -> Tensor:
    """Rows of different lengths as one int64 tensor."""
    table = np.full((len(rows), max(len(row) for row in rows)), fill, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)


def batches(sequences: list[list[int]], sentinel: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Endless corrupted batches, every sequence once an epoch."""
    rng = np.random.default_rng([seed, 3])
    while True:
        order = rng.permutation(len(sequences))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            pairs = [corrupt(sequences[int(i)], sentinel, rng) for i in order[start : start + BATCH]]
            inputs = padded([pair[0] for pair in pairs], 0)
            labels = padded([pair[1] for pair in pairs], IGNORED)
            yield {"input_ids": inputs, "attention_mask": (inputs != 0).long(), "labels": labels}


def _first_sentinel(tokenizer: PreTrainedTokenizerFast) -> int:
    """Id of `<extra_id_0>`; the others lie below it."""
    return int(tokenizer.get_vocab()["<extra_id_0>"])


def train(tokenizer: PreTrainedTokenizerFast, texts: list[str], steps: int, seed: int) -> UMT5ForConditionalGeneration:
    """The encoder-decoder after `steps` batches of span corruption."""
    torch.manual_seed(seed)
    model = UMT5ForConditionalGeneration(
        UMT5Config(vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **ARCHITECTURE)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    sequences: list[list[int]] = tokenizer(texts)["input_ids"]
    stream = batches(sequences, _first_sentinel(tokenizer), seed)
    model.train()
    for step in range(steps):
        loss = model(**next(stream)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            print(json.dumps({"step": step, "loss": round(float(loss.detach()), 4)}), flush=True)
    return model.eval()


@torch.no_grad()
def span_accuracy(model: UMT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> float:
    """Share of missing tokens (sentinels aside) that the encoder-decoder restores when given the ones before."""
    sentinel = _first_sentinel(tokenizer)
    stream = batches(tokenizer(texts)["input_ids"], sentinel, 99)
    hits, total = 0, 0
    for _ in range(len(texts) // BATCH):
        batch = next(stream)
        guess = model(**batch).logits.argmax(-1)
        counted = (batch["labels"] != IGNORED) & (batch["labels"] <= sentinel - SENTINELS) & (batch["labels"] > 1)
        hits += int((guess == batch["labels"])[counted].sum())
        total += int(counted.sum())
    return hits / total


@torch.no_grad()
def pooled_states(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> NDArray[np.float32]:
    """Mean encoder state [N, d_model] of each text."""
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    states = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return ((states * mask).sum(1) / mask.sum(1)).numpy()


def probe_accuracy(states: NDArray[np.float32], labels: NDArray[np.intp], train_count: int) -> float:
    """Accuracy of a ridge classifier fitted on the first `train_count` rows and read on the rest."""
    features = np.concatenate([(states - states.mean(0)) / (states.std(0) + 1e-6), np.ones((len(states), 1))], axis=1)
    targets = np.eye(int(labels.max()) + 1)[labels]
    known, gram = features[:train_count], features[:train_count].T @ features[:train_count]
    weights = np.linalg.solve(gram + np.eye(len(gram)), known.T @ targets[:train_count])
    return float(((features[train_count:] @ weights).argmax(1) == labels[train_count:]).mean())


def measure(
    model: UMT5ForConditionalGeneration, encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """Quality on captions of people and rooms outside the training range."""
    seeds = range(FIRST_HELD_OUT, FIRST_HELD_OUT + 2 * HELD_OUT)
    texts = captions(seeds)
    states = pooled_states(encoder, tokenizer, texts)
    kinds = np.array([KINDS.index(sample_scene(seed + 500_000).kind) for seed in seeds])
    lengths = [len(row) for row in tokenizer(texts)["input_ids"]]
    unknown = tokenizer.unk_token_id
    foreign = tokenizer(["Ein Mann spricht, 你好 😀 naïve café", "ALL CAPS & (symbols) #42"])["input_ids"]
    return {
        "span_accuracy": round(span_accuracy(model, tokenizer, texts), 4),
        "room_kind_probe_accuracy": round(probe_accuracy(states, kinds, HELD_OUT), 4),
        "room_kind_chance": round(1 / len(KINDS), 4),
        "tokens_mean": round(float(np.mean(lengths)), 2),
        "tokens_max": float(max(lengths)),
        "unknown_tokens_in_foreign_text": float(sum(row.count(unknown) for row in foreign)),
        "state_rms": round(float(np.sqrt((states**2).mean())), 4),
    }


def load_or_make_tokenizer(directory: Path, texts: list[str]) -> PreTrainedTokenizerFast:
    """The tokenizer that is there already (its ids are a contract with every encoder and base), or a new one."""
    if not (directory / "tokenizer.json").exists():
        save_tokenizer(unigram_tokenizer(texts, PIECES), directory)
    return PreTrainedTokenizerFast.from_pretrained(directory)


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="writes OUT/tokenizer and OUT/text_encoder")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = captions(range(FIRST_TRAIN, FIRST_TRAIN + TRAIN_CAPTIONS)) + sentences(TRAIN_SENTENCES, options.seed)
    tokenizer = load_or_make_tokenizer(options.out / "tokenizer", texts)
    print(json.dumps({"vocabulary": len(tokenizer), "texts": len(texts)}), flush=True)
    model = train(tokenizer, texts, options.steps, options.seed)
    encoder = UMT5EncoderModel(model.config)
    encoder.load_state_dict(model.state_dict(), strict=False)
    encoder.half().save_pretrained(options.out / "text_encoder")
    stored = UMT5EncoderModel.from_pretrained(options.out / "text_encoder", dtype=torch.float32).eval()
    print(json.dumps(measure(model, stored, tokenizer)), flush=True)


if __name__ == "__main__":
    main()
