"""Everything a training step needs to know of one clip, as named tensors (paper, section 3.1)."""

import functools
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from tavr_model.speech import SpeechEncoder
from tavr_model.text import encode_prompt
from tavr_model.token_selection import (
    background_tokens,
    face_tokens,
    foreground_mask,
    latent_frames,
    mask_background,
)
from tavr_model.vae import encode_video
from tavr_perception.keypoints import KeypointEstimator, face_boxes
from tavr_perception.people import PersonSegmenter
from tavr_records.atomic import write_bytes
from tavr_records.media import Frames, Waveform, read_audio, read_video
from tavr_records.memo import Memo
from tavr_records.shards import tensor_offsets

from tavr_latents.config import LatentsConfig
from tavr_latents.windows import Window, cut_windows, fill_boxes, person_hole

Tensors = dict[str, NDArray[Any]]
_TENSORS, _REFUSAL = "tensors.safetensors", "refusal.json"
_DTYPES = {"BF16": ml_dtypes.bfloat16, "BOOL": np.bool_}


@dataclass(frozen=True)
class Job:
    """One clip with its sound and prompt; `face_box` xyxy, when given, stands in for the search for a face."""

    media: Path
    audio: Path
    clip_sha256: str
    audio_sha256: str
    fps: int
    sample_rate: int
    caption: str
    face_box: tuple[float, float, float, float] | None
    root: Path
    config: LatentsConfig
    memo: Memo


class RefusedClipError(Exception):
    """The clip cannot be encoded; `rule` and `reason` go to quarantine."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason


def encode(job: Job) -> Path:
    """Encode a clip once for each content; the folder to `load`."""
    key = {
        "clip_sha256": job.clip_sha256,
        "audio_sha256": job.audio_sha256,
        "fps": job.fps,
        "caption": job.caption,
        "face_box": job.face_box,
    }
    return job.memo.entry(key, lambda folder: _encode_into(folder, job))


def load(folder: Path) -> Tensors:
    """Read back the tensors `<window>/<name>` of a clip.

    Raises:
        RefusedClipError: the clip was refused.
    """
    if (folder / _REFUSAL).is_file():
        raise RefusedClipError(*json.loads((folder / _REFUSAL).read_bytes()))
    return read_tensors((folder / _TENSORS).read_bytes())


def read_tensors(data: bytes) -> Tensors:
    """The tensors of a safetensors file of bfloat16 and bool, without a copy."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return {
        name: np.frombuffer(data[offset : offset + size], _DTYPES[header[name]["dtype"]]).reshape(header[name]["shape"])
        for name, (offset, size) in tensor_offsets(data).items()
    }


def _encode_into(folder: Path, job: Job) -> None:
    try:
        tensors = _tensors(job)
    except RefusedClipError as error:
        write_bytes(folder / _REFUSAL, json.dumps([error.rule, error.reason]).encode())
    else:
        write_bytes(folder / _TENSORS, save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}))


def _tensors(job: Job) -> Tensors:
    """All tensors of a clip.

    Raises:
        RefusedClipError: too_short, no_face (in one of the windows), no_person.
    """
    config = job.config
    networks = _networks(job.root, config.vae, config.text_encoder, config.tokenizer, config.speech)
    frames, _ = read_video(job.media)
    windows = cut_windows(len(frames), config.num_frames, config.ref_frames_max, config.long_frames_max)
    if not windows:
        raise RefusedClipError("too_short", f"{len(frames)} frames, no reference after {config.num_frames}")
    target, ref, long = windows
    boxes = _face_boxes(frames[target.span], job)
    tensors = _face_tokens(frames[target.span], boxes, target)
    tensors |= _face_tokens(frames[ref.span], _face_boxes(frames[ref.span], job), ref)
    tensors |= _encode_background(networks, frames[target.span], boxes, job)
    whole = networks.encode_frames(frames[long.span])
    tensors |= {f"{long.name}/latents": whole, f"{ref.name}/latents": networks.encode_frames(frames[ref.span])}
    # The VAE is causal: what follows a window does not change its latents.
    tensors[f"{target.name}/latents"] = whole[:, : latent_frames(target.frames)]
    tensors["clip/text"] = networks.encode_text(job.caption, config.text_max_tokens)
    tensors["clip/audio"] = networks.encode_audio(read_audio(job.audio, job.sample_rate), len(frames), job.fps)
    return tensors


def _face_tokens(frames: Frames, boxes: NDArray[np.float32], window: Window) -> Tensors:
    tokens = face_tokens(boxes, frames.shape[1], frames.shape[2])
    if not tokens.any():
        raise RefusedClipError("no_face", f"no face in the frames of {window.name}")
    return {f"{window.name}/face_tokens": tokens}


def _encode_background(networks: "_Networks", frames: Frames, boxes: NDArray[np.float32], job: Job) -> Tensors:
    """The first frame without the person, which tokens of it to keep, and the mask m of Eq. 7."""
    masks = _people(job.root / job.config.people).masks(frames[:: job.config.people_stride])
    if not masks.any() and job.face_box is None:
        raise RefusedClipError("no_person", "no person in the frames of target0")
    hole = person_hole(masks, boxes, job.config.hole_dilation)
    return {
        "target0/bg_latents": networks.encode_frames(mask_background(frames[0], hole)),
        "target0/bg_tokens": background_tokens(hole),
        "target0/foreground": foreground_mask(hole),
    }


def _face_boxes(frames: Frames, job: Job) -> NDArray[np.float32]:
    """Face boxes [frames, 4]: the supplied one everywhere, or the keypoints' in every `face_stride`-th frame."""
    positions = np.arange(0, len(frames), job.config.face_stride)
    if job.face_box is not None:
        return fill_boxes(np.asarray(job.face_box, np.float32)[None], np.arange(len(frames)), len(frames))
    keypoints = _keypoints(job.root / job.config.keypoints).estimate(frames[positions])
    return fill_boxes(face_boxes(keypoints, job.config.face_min_score, job.config.face_expand), positions, len(frames))


class _Networks:
    """VAE, text and speech encoder of one worker: on a GPU where there is one, else on one thread."""

    def __init__(self, vae: Path, text_encoder: Path, tokenizer: Path, speech: Path) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
        from transformers import AutoTokenizer, UMT5EncoderModel

        torch.set_num_threads(1)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded: Any = AutoencoderKLWan.from_pretrained(vae, local_files_only=True, torch_dtype=torch.float32)
        self._vae = loaded.eval().to(self._device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        text: Any = UMT5EncoderModel.from_pretrained(text_encoder, local_files_only=True, dtype=torch.float32)
        self._text = text.eval().to(self._device)
        self._speech = SpeechEncoder(speech)

    def encode_frames(self, frames: Frames) -> NDArray[Any]:
        """Wan-normalised latents bfloat16 [16, T, h, w]."""
        return to_bfloat16(encode_video(self._vae, torch.from_numpy(frames)).cpu())

    def encode_text(self, caption: str, max_tokens: int) -> NDArray[Any]:
        """Prompt embeddings bfloat16 [tokens, d], without padding."""
        return to_bfloat16(encode_prompt(self._text, self._tokenizer, caption, max_tokens).cpu())

    def encode_audio(self, waveform: Waveform, frames: int, fps: int) -> NDArray[Any]:
        """Hidden states of the speech encoder bfloat16 [frames, layers, d]."""
        return self._speech.encode(waveform, frames, fps).astype(ml_dtypes.bfloat16)


def to_bfloat16(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor as a numpy array of bfloat16, rounded to nearest even."""
    return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)


@functools.lru_cache(maxsize=1)
def _networks(root: Path, vae: str, text_encoder: str, tokenizer: str, speech: str) -> _Networks:
    return _Networks(root / vae, root / text_encoder, root / tokenizer, root / speech)


@functools.lru_cache(maxsize=1)
def _keypoints(directory: Path) -> KeypointEstimator:
    return KeypointEstimator(directory)


@functools.lru_cache(maxsize=1)
def _people(directory: Path) -> PersonSegmenter:
    return PersonSegmenter(directory)
