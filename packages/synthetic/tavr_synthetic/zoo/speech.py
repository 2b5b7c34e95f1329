"""Train the tiny Wav2Vec2 speech encoder: `python -m tavr_synthetic.zoo.speech --out DIR`.

Writes DIR/speech (Wav2Vec2Model, float16, and its feature extractor). Linear heads on every hidden state regress the
mouth opening, whether there is voice, and the voice's pitch, on noisy synthesized speech; the heads are thrown away.
About five minutes on one thread. Prints how well a linear probe reads the mouth from voices never heard.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tavr_model.speech import SpeechEncoder
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tavr_synthetic.people import sample_person
from tavr_synthetic.speech import synthesize

FIRST_TRAIN, FIRST_HELD_OUT = 1_000_000, 3_000_000
SAMPLE_RATE, FPS = 16000, 25
SECONDS, CROP_SECONDS = 2.4, 1.76
TRUTH_RATE = 100
STATE_STRIDE, STATE_FIELD = 320, 400
"""Samples from one hidden state to the next, and samples that one sees: those of wav2vec2-base."""
UTTERANCES, HELD_OUT, HELD_OUT_FRAMES = 1600, 160, 44
BATCH = 16
VOICED_ABOVE = 0.06
ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "conv_dim": (32,) * 7,
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "vocab_size": 32,
}


@dataclass(frozen=True)
class Utterances:
    """sound float32 [N, samples]; mouth float32 [N, points] at TRUTH_RATE; log_pitch float32 [N] around zero."""

    sound: NDArray[np.float32]
    mouth: NDArray[np.float32]
    log_pitch: NDArray[np.float32]


def utterances(first: int, count: int, seconds: float) -> Utterances:
    """Speech of `count` different voices."""
    sounds: list[NDArray[np.float32]] = []
    mouths: list[NDArray[np.float32]] = []
    pitches: list[float] = []
    for seed in range(first, first + count):
        voice = sample_person(seed).voice
        speech = synthesize(voice, seed, seconds, SAMPLE_RATE, TRUTH_RATE)
        sounds.append(speech.waveform)
        mouths.append(speech.mouth_open)
        pitches.append(float(np.log(voice.f0 / 150.0)) / 0.35)
    return Utterances(np.stack(sounds), np.stack(mouths), np.asarray(pitches, np.float32))


def degrade(sound: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of random strength and colour, random loudness, sometimes an echo: what recordings have."""
    power = float(np.sqrt((sound**2).mean())) + 1e-4
    noise = rng.standard_normal(len(sound)).astype(np.float32)
    if rng.random() < 0.5:
        noise = np.convolve(noise, np.full(12, 1 / 12**0.5, np.float32), mode="same").astype(np.float32)
    level = power * 10 ** (-rng.uniform(5.0, 45.0) / 20)
    result = sound + np.float32(level) * noise
    if rng.random() < 0.3:
        delay = int(rng.integers(80, 800))
        result[delay:] += np.float32(rng.uniform(0.05, 0.3)) * sound[:-delay]
    return (result * np.float32(rng.uniform(0.2, 1.0))).astype(np.float32)


def standardized(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero mean and unit variance, as the feature extractor does."""
    return ((sound - sound.mean()) / np.sqrt(sound.var() + np.float32(1e-7))).astype(np.float32)


def draw_batch(data: Utterances, rng: np.random.Generator, states: int) -> tuple[Tensor, Tensor]:
    """Sound [B, samples] and targets [B, states, 3] (mouth, voiced, pitch) at the middle of each hidden state."""
    samples = int(CROP_SECONDS * SAMPLE_RATE)
    grid = (np.arange(data.mouth.shape[1]) + 0.5) / TRUTH_RATE
    sounds: list[NDArray[np.float32]] = []
    targets: list[NDArray[np.float32]] = []
    for index in rng.integers(len(data.sound), size=BATCH):
        start = int(rng.integers(0, data.sound.shape[1] - samples))
        sounds.append(standardized(degrade(data.sound[index, start : start + samples], rng)))
        middles = (start + STATE_STRIDE * np.arange(states) + STATE_FIELD / 2) / SAMPLE_RATE
        mouth = np.interp(middles, grid, data.mouth[index])
        pitch = np.full(states, data.log_pitch[index])
        targets.append(np.stack([mouth, mouth > VOICED_ABOVE, pitch], axis=1).astype(np.float32))
    return torch.from_numpy(np.stack(sounds)), torch.from_numpy(np.stack(targets))


def head_loss(guess: Tensor, target: Tensor) -> Tensor:
    """Squared error of the mouth and (while there is voice) of the pitch, cross entropy of the voicing."""
    mouth = (guess[..., 0] - target[..., 0]).square().mean() / 0.08
    voiced = nn.functional.binary_cross_entropy_with_logits(guess[..., 1], target[..., 1])
    pitch = ((guess[..., 2] - target[..., 2]).square() * target[..., 1]).sum() / target[..., 1].sum().clamp(min=1)
    return mouth + 0.3 * voiced + 0.1 * pitch


def train(data: Utterances, steps: int, seed: int) -> Wav2Vec2Model:
    """The encoder after `steps` batches."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 5])
    model = Wav2Vec2Model(Wav2Vec2Config(**ARCHITECTURE)).train()
    layers = model.config.num_hidden_layers + 1
    heads = nn.ModuleList([nn.Linear(model.config.hidden_size, 3) for _ in range(layers)])
    states = (int(CROP_SECONDS * SAMPLE_RATE) - STATE_FIELD) // STATE_STRIDE + 1
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.15)
    for step in range(steps):
        sound, target = draw_batch(data, rng, states)
        hidden = model(sound, output_hidden_states=True).hidden_states
        losses = torch.stack([head_loss(head(state), target) for head, state in zip(heads, hidden, strict=True)])
        optimizer.zero_grad()
        losses.sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            print(json.dumps({"step": step, "losses": [round(x, 4) for x in losses.tolist()]}), flush=True)
    return model.eval()


def probe_r2(features: NDArray[np.float32], target: NDArray[np.float32], known: int) -> float:
    """R^2 on rows after `known` of a ridge regression fitted on the rows before."""
    mean, std = features[:known].mean(0), features[:known].std(0) + 1e-6
    rows = np.concatenate([(features - mean) / std, np.ones((len(features), 1))], axis=1).astype(np.float64)
    gram = rows[:known].T @ rows[:known]
    weights = np.linalg.solve(gram + np.eye(len(gram)), rows[:known].T @ target[:known])
    error = target[known:] - rows[known:] @ weights
    return float(1 - error.var() / target[known:].var())


def measure(directory: Path, noisy: bool) -> dict[str, object]:
    """R^2 of the mouth opening by a linear probe on each hidden state: half of the unseen voices fit it, half judge."""
    encoder = SpeechEncoder(directory)
    rng = np.random.default_rng(17)
    features: list[NDArray[np.float32]] = []
    mouths: list[NDArray[np.float32]] = []
    for seed in range(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT):
        speech = synthesize(sample_person(seed).voice, seed, HELD_OUT_FRAMES / FPS, SAMPLE_RATE, FPS)
        sound = degrade(speech.waveform, rng) if noisy else speech.waveform
        features.append(encoder.encode(sound, HELD_OUT_FRAMES, FPS))
        mouths.append(speech.mouth_open)
    states, mouth = np.concatenate(features), np.concatenate(mouths)
    known = len(mouth) // 2
    r2 = [round(probe_r2(states[:, layer], mouth, known), 4) for layer in range(encoder.layers)]
    return {"noisy": noisy, "mouth_r2_per_hidden_state": r2, "state_rms": round(float(np.sqrt((states**2).mean())), 3)}


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="writes OUT/speech")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = train(utterances(FIRST_TRAIN, UTTERANCES, SECONDS), options.steps, options.seed)
    directory: Path = options.out / "speech"
    model.half().save_pretrained(directory)
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE, padding_value=0.0, do_normalize=True, return_attention_mask=False
    ).save_pretrained(directory)
    for noisy in (False, True):
        print(json.dumps(measure(directory, noisy)), flush=True)


if __name__ == "__main__":
    main()
