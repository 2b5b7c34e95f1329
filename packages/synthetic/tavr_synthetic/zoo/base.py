"""Train the tiny Wan text-to-video base: `python -m tavr_synthetic.zoo.base --out DIR`.

Same class as Wan2.1-T2V (diffusers WanTransformer3DModel), narrower; first on single frames, then on whole clips, as
Wan2.1 itself was trained. The pipeline is given this base as it is given Wan2.1: it never trains it from nothing.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from joblib import Parallel, delayed
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm
from transformers import AutoTokenizer, UMT5EncoderModel

from tavr_synthetic.zoo.corpus import CorpusConfig, captions, load_corpus
from tavr_synthetic.zoo.muon import MuonWithAdamW
from tavr_synthetic.zoo.vae import to_pixels

TEXT_LENGTH = 96
ARCHITECTURE = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 64,
    "ffn_dim": 576,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "rope_max_seq_len": 64,
}
TEXT_DROPOUT = 0.1
EMA_DECAY = 0.995
SINGLE_FRAMES = 0.25
NOT_HIDDEN = ("patch_embedding", "proj_out", "time_embedder", "scale_shift_table")


@dataclass(frozen=True)
class Encoded:
    """The corpus in latent space: latents [N, 16, T, h, w] float16, text [N + 1, TEXT_LENGTH, 64] (last: null)."""

    latents: Tensor
    text: Tensor


def encode_clips(vae_dir: Path, frames: np.ndarray) -> Tensor:
    """Normalised latents [N, 16, T, h, w] float16 of clips [N, T, H, W, 3]; bfloat16 inference, one thread."""
    torch.set_num_threads(1)
    vae = AutoencoderKLWan.from_pretrained(vae_dir, torch_dtype=torch.bfloat16)
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        return torch.cat(
            [((vae.encode(to_pixels(c).bfloat16()).latent_dist.mode().float() - mean) / std).half() for c in frames]
        )


def encode_text(text_encoder: Path, tokenizer: Path, captions: list[str]) -> Tensor:
    """UMT5 states [N, TEXT_LENGTH, 64], zero beyond each caption's end, as Wan's pipeline pads them."""
    tokens = AutoTokenizer.from_pretrained(tokenizer)
    encoder = UMT5EncoderModel.from_pretrained(text_encoder, torch_dtype=torch.float32).eval()
    states = []
    with torch.no_grad():
        for start in range(0, len(captions), 256):
            batch = tokens(
                captions[start : start + 256],
                padding="max_length",
                max_length=TEXT_LENGTH,
                truncation=True,
                return_tensors="pt",
            )
            hidden = encoder(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
            states.append(hidden * batch.attention_mask[..., None])
    return torch.cat(states)


def load_encoded(zoo: Path, cache: Path, config: CorpusConfig) -> Encoded:
    """Render and encode the corpus, or read what an earlier run left in `cache`."""
    path = cache / f"latents-{config.clips}-{config.frames}-{config.height}x{config.width}-{config.first_seed}.pt"
    frames, _ = load_corpus(config, cache)
    if not path.exists():
        chunks = Parallel(n_jobs=-1, return_as="generator")(
            delayed(encode_clips)(zoo / "vae", np.array(frames[start : start + 32]))
            for start in range(0, config.clips, 32)
        )
        bar = tqdm(chunks, total=-(-config.clips // 32), desc="encode", unit="chunk")
        torch.save(torch.cat(list(bar)), path)
    text = encode_text(zoo / "text_encoder", zoo / "tokenizer", captions(config))
    null = torch.zeros(1, *text.shape[1:])
    return Encoded(torch.load(path), torch.cat([text, null]))


class MixedPrecision:
    """fp32 weights that learn and their bfloat16 copy that computes, as diffusers loads it (some modules stay fp32)."""

    def __init__(self, master: WanTransformer3DModel) -> None:
        """Make the copy by saving and loading, so that the modules kept in fp32 are diffusers' own choice."""
        self.master = master
        with TemporaryDirectory() as directory:
            master.save_pretrained(directory)
            self.copy = WanTransformer3DModel.from_pretrained(directory, torch_dtype=torch.bfloat16)

    def velocity_loss(self, clean: Tensor, text: Tensor, generator: torch.Generator) -> Tensor:
        """Flow matching (paper Eq. 6) with logit-normal t; clean [B, 16, T, h, w], text [B, L, 64]."""
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.sigmoid(torch.randn(clean.shape[0], generator=generator))
        t_wide = t.view(-1, 1, 1, 1, 1)
        noisy = ((1 - t_wide) * clean + t_wide * noise).bfloat16()
        with sdpa_kernel(SDPBackend.MATH):  # flash's backward is slow on a CPU
            output = self.copy(noisy, t * 1000, text.bfloat16(), return_dict=False)[0]
        return (output.float() - (noise - clean)).square().mean()

    def collect_gradients(self) -> None:
        """Move the copy's gradients to the fp32 weights, clipped to norm 1."""
        for parameter, copy in zip(self.master.parameters(), self.copy.parameters(), strict=True):
            parameter.grad, copy.grad = (None if copy.grad is None else copy.grad.float()), None
        torch.nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)

    @torch.no_grad()
    def refresh_copy(self) -> None:
        """Round the fp32 weights to the copy."""
        for parameter, copy in zip(self.master.parameters(), self.copy.parameters(), strict=True):
            copy.copy_(parameter)


@dataclass(frozen=True)
class BaseTraining:
    """How long, on what and from what the base trains."""

    minutes: float
    clips: int
    seed: int
    resume: Path | None


def train(zoo: Path, out: Path, cache: Path, plan: BaseTraining) -> None:
    """Train until the time is up (the first share on single frames), keep the moving average, write bfloat16."""
    data = load_encoded(zoo, cache, CorpusConfig(plan.clips, 21, 64, 112, 2_000_000))
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    model = WanTransformer3DModel.from_pretrained(plan.resume) if plan.resume else WanTransformer3DModel(**ARCHITECTURE)
    average = {name: value.detach().float().clone() for name, value in model.state_dict().items()}
    optimizer = MuonWithAdamW(model, muon_rate=0.015, adam_rate=2e-3, adam_names=NOT_HIDDEN)
    precision = MixedPrecision(model)
    started, step, smooth, saved = time.monotonic(), 0, 0.0, time.monotonic()
    with tqdm(total=int(plan.minutes * 60), unit="s") as bar:
        while (elapsed := time.monotonic() - started) < plan.minutes * 60:
            done = elapsed / (plan.minutes * 60)
            single = plan.resume is None and done < SINGLE_FRAMES
            picks = torch.randint(len(data.latents), (96 if single else 16,), generator=generator)
            clean = data.latents[picks, :, :1] if single else data.latents[picks]
            texts = torch.where(torch.rand(len(picks), generator=generator) < TEXT_DROPOUT, len(data.text) - 1, picks)
            loss = precision.velocity_loss(clean.float(), data.text[texts], generator)
            loss.backward()
            precision.collect_gradients()
            optimizer.step(min(1, (step + 1) / 50) * max(0.02, 1 - done))
            precision.refresh_copy()
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    average[name].lerp_(value.float(), 1 - decay)
            smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
            step += 1
            bar.n = int(elapsed)
            bar.set_postfix(step=step, loss=f"{smooth:.4f}", frames="1" if single else "21")
            if time.monotonic() - saved > 300:
                save(average, out)
                saved = time.monotonic()
    save(average, out)
    print(json.dumps({"steps": step, "loss": smooth}))


def save(state: dict[str, Tensor], out: Path) -> None:
    """Write the averaged weights as a diffusers model directory in bfloat16."""
    model = WanTransformer3DModel(**ARCHITECTURE)
    model.load_state_dict(state)
    model.to(torch.bfloat16).save_pretrained(out)


def write_scheduler(out: Path, flow_shift: float) -> None:
    """Write Wan2.1's scheduler configuration (UniPC on flow sigmas)."""
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=flow_shift
    ).save_pretrained(out)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo", type=Path, required=True, help="directory with vae/, text_encoder/ and tokenizer/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, default=None, help="go on from these weights, on whole clips only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = BaseTraining(arguments.minutes, arguments.clips, arguments.seed, arguments.resume)
    train(arguments.zoo, arguments.out, arguments.cache, plan)
    write_scheduler(arguments.zoo / "scheduler", flow_shift=3.0)


if __name__ == "__main__":
    main()
