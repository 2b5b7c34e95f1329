"""TAVRPipeline: a talking avatar from a video reference, driving speech, a background and a prompt (section 3.1).

What diffusers offers for its pipelines (devices, CPU and group offload, VAE tiling, layerwise casting, quantisation,
saving and loading) works on this one. Finding the face and the person is the caller's: `tavr generate` does it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from diffusers.utils.outputs import BaseOutput
from huggingface_hub import create_repo, upload_folder
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions
from tavr_model.generate import Sampling, VideoRequest, generate_videos
from tavr_model.long_video import joins, plan_windows
from tavr_model.model_card import write_model_card
from tavr_model.shapes import BoxArray, FrameMap, FrameMapArray, HoleArray, PictureArray, RefFrameArray, Waveform
from tavr_model.speech import SAMPLE_RATE, speech_features
from tavr_model.text import encode_prompt
from tavr_model.token_selection import (
    TOKEN_PIXELS,
    background_tokens,
    face_tokens,
    latent_frames,
    mask_background,
)
from tavr_model.transformer import TAVRTransformer3DModel
from tavr_model.vae import decode_latents, encode_video

FPS = 25
StepEnd = Callable[[DiffusionPipeline, int, int], None]
"""Called with (pipeline, steps done, steps in all) after every step."""


@dataclass
class TAVRPipelineOutput(BaseOutput):
    """One entry a request.

    Attributes:
        frames: uint8 RGB frames [T, H, W, 3], or with output_type "latent" latents [C, T', h, w].
        joins: the frames with which a later window begins.
        attention: with explain=True, the share of attention from each latent frame to each of the reference,
            float32 [T', R'], a mean over blocks, heads and tokens half-way through the steps; else empty.
    """

    frames: list[Any]
    joins: list[list[int]]
    attention: list[FrameMapArray]


class TAVRPipeline(DiffusionPipeline):
    """Generates talking-avatar videos at 25 fps (paper section 3.1 and A.1)."""

    model_cpu_offload_seq = "text_encoder->speech_encoder->transformer->vae"

    def __init__(  # noqa: PLR0913 - the components
        self,
        transformer: TAVRTransformer3DModel,
        vae: AutoencoderKLWan,
        scheduler: UniPCMultistepScheduler,
        text_encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        speech_encoder: Wav2Vec2Model,
        feature_extractor: Wav2Vec2FeatureExtractor,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            speech_encoder=speech_encoder,
            feature_extractor=feature_extractor,
        )

    @torch.inference_mode()
    def __call__(  # noqa: PLR0913 - what a user may choose
        self,
        reference_video: RefFrameArray | Sequence[RefFrameArray],
        driving_audio: Waveform | Sequence[Waveform],
        background: PictureArray | Sequence[PictureArray],
        prompt: str | Sequence[str] = "",
        *,
        reference_audio: Waveform | Sequence[Waveform | None] | None = None,
        reference_boxes: BoxArray | Sequence[BoxArray | None] | None = None,
        background_mask: HoleArray | Sequence[HoleArray | None] | None = None,
        num_frames: int | None = None,
        num_inference_steps: int = 24,
        text_guidance: float = 5.0,
        audio_guidance: float = 1.8,
        window_frames: int = 81,
        motion_latents: int = 2,
        reference_cache: bool = True,
        packed_branches: bool = False,
        guided_share: float = 1.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "np",
        explain: bool = False,
        callback_on_step_end: StepEnd | None = None,
    ) -> TAVRPipelineOutput:
        """Generate one video, or one for each entry where lists are given (all lists as long as each other).

        Args:
            reference_video: the person in another scene, uint8 RGB [R, H, W, 3] at 25 fps; the first 4k + 1 frames
                count. Height and width are multiples of 16.
            driving_audio: the speech to be spoken, float32 samples [n] at 16 kHz in [-1, 1].
            background: the scene, uint8 RGB [H, W, 3], as large as the video is to be.
            prompt: what is to be seen.
            reference_audio: the sound of the reference video, its first sample at its first frame; None: silence.
            reference_boxes: where the face is, [R, 4] x0, y0, x1, y1 in pixels, NaN in frames without; only tokens in
                the box are kept (token selection). None keeps all.
            background_mask: where the person may appear, bool [H, W]; None: nowhere is masked.
            num_frames: of the video; None: as long as the speech.
            num_inference_steps: of UniPC (24 in the paper).
            text_guidance: s_t (5.0 in the paper).
            audio_guidance: s_a (1.8 in the paper).
            window_frames: pixel frames that the network was trained on, 4k + 1; longer videos take several windows.
            motion_latents: latents by which a window continues the one before it.
            reference_cache: compute the reference stream once and keep it (`tavr cost` tells its size).
            packed_branches: compute the guidance branches of a step in one pass; three times the activations.
            guided_share: share of the steps, the first ones, that compute all guidance branches; the others hold the
                last guidance. 0.5 takes 48 passes instead of 72. **Lossy**: the video differs; 1 is exact.
            generator: CPU generator of the noise, one a request; None: a fresh random one.
            output_type: "np" for frames, "latent" for latents.
            explain: also tell which reference frames each frame looked at, for one pass more a window.
            callback_on_step_end: told of every step.

        Raises:
            ValueError: names the argument that does not fit.
        """
        requests = _requests(
            prompt=prompt,
            reference_video=reference_video,
            driving_audio=driving_audio,
            background=background,
            reference_audio=reference_audio,
            reference_boxes=reference_boxes,
            background_mask=background_mask,
            generator=generator,
        )
        if output_type not in ("np", "latent"):
            raise ValueError(f'output_type is {output_type!r}; give "np" or "latent"')
        if window_frames % 4 != 1:
            raise ValueError(f"window_frames is {window_frames}; give 4k + 1 frames")
        device: torch.device = self._execution_device
        lengths = [num_frames or _speech_frames(request["driving_audio"]) for request in requests]
        videos = [self._prepare(request, frames) for request, frames in zip(requests, lengths, strict=True)]
        sampling = Sampling(
            num_inference_steps, text_guidance, audio_guidance, reference_cache, packed_branches, guided_share
        )
        window = latent_frames(window_frames)
        explained: list[FrameMap] | None = [] if explain else None
        windows = max(len(plan_windows(video.shape[1], window, motion_latents)) for video in videos)
        bar: Any = self.progress_bar(total=windows * num_inference_steps)  # pyright: ignore[reportCallIssue]
        with bar:

            def told(done: int, total: int) -> None:
                bar.update()
                if callback_on_step_end is not None:
                    callback_on_step_end(self, done, total)

            latents = generate_videos(
                self.transformer, self.scheduler, videos, sampling, window, motion_latents, device, told, explained
            )
        if output_type == "latent":
            frames: list[Any] = latents
        else:
            frames = [decode_latents(self.vae, z).numpy()[:length] for z, length in zip(latents, lengths, strict=True)]
        self.maybe_free_model_hooks()
        starts = [joins(z.shape[1], window, motion_latents) for z in latents]
        kept = [[start for start in at if start < length] for at, length in zip(starts, lengths, strict=True)]
        attention = [shares.float().cpu().numpy() for shares in explained or ()]
        return TAVRPipelineOutput(frames=frames, joins=kept, attention=attention)

    def _prepare(self, request: dict[str, Any], frames: int) -> VideoRequest:
        """Encode everything that a request is conditioned on."""
        reference, background, mask = request["reference_video"], request["background"], request["background_mask"]
        height, width = background.shape[:2]
        ref_latents = encode_video(self.vae, torch.from_numpy(reference))
        heard = request["reference_audio"]
        silence = np.zeros(0, np.float32)
        ref_features = self._features(silence if heard is None else heard, len(reference))
        boxes = request["reference_boxes"]
        faces = None if boxes is None else torch.from_numpy(face_tokens(boxes, *reference.shape[1:3]))
        if faces is not None and not faces.any():
            raise ValueError("reference_boxes: no face in any frame; give another reference video, or None")
        hole = np.zeros((height, width), np.bool_) if mask is None else mask
        bg_latents = encode_video(self.vae, torch.from_numpy(mask_background(background, hole)))
        text_len: int = self.transformer.config["text_len"]
        conditions = Conditions(
            text_embeds=encode_prompt(self.text_encoder, self.tokenizer, request["prompt"], text_len).float(),
            ref_latents=ref_latents,
            ref_face_tokens=faces,
            ref_audio=audio_windows(ref_features, ref_latents.shape[1], window=self._audio_window),
            bg_latents=bg_latents,
            bg_tokens=torch.from_numpy(background_tokens(hole)),
        )
        latents = 1 + math.ceil((frames - 1) / 4)
        features = self._features(request["driving_audio"], frames)
        shape = (ref_latents.shape[0], latents, bg_latents.shape[2], bg_latents.shape[3])
        generator = request["generator"] or torch.Generator().manual_seed(torch.seed())
        return VideoRequest(conditions, features, shape, generator)

    @property
    def _audio_window(self) -> int:
        return int(self.transformer.config["audio_window"])

    def _features(self, waveform: NDArray[np.float32], frames: int) -> torch.Tensor:
        """Speech features [frames, layers, dim]."""
        return torch.from_numpy(speech_features(self.speech_encoder, self.feature_extractor, waveform, frames, FPS))

    def save_pretrained(self, save_directory: str | Path, *arguments: Any, **options: Any) -> None:
        """Save every component as diffusers does, and a model card beside them."""
        super().save_pretrained(save_directory, *arguments, **options)
        write_model_card(Path(save_directory) / "README.md", self.transformer)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Upload the pipeline with its model card to the Hugging Face Hub; returns the commit's address.

        `private`, `token` and `commit_message` are the hub's; anything else is `save_pretrained`'s.
        """
        private, token = options.pop("private", None), options.pop("token", None)
        message = options.pop("commit_message", None) or "TAVR pipeline"
        name = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, **options)
            return str(upload_folder(repo_id=name, folder_path=folder, token=token, commit_message=message))


def _speech_frames(waveform: NDArray[np.float32]) -> int:
    """Frames that the speech lasts, at least one."""
    return max(1, round(len(waveform) * FPS / SAMPLE_RATE))


def _requests(**given: Any) -> list[dict[str, Any]]:
    """One dictionary of arguments a request, checked.

    Raises:
        ValueError: lists of different lengths, or an argument of the wrong kind.
    """
    lengths = {name: len(value) for name, value in given.items() if isinstance(value, (list, tuple))}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lists of different lengths: {lengths}; give as many entries of each")
    count = next(iter(lengths.values()), 1)
    if not count:
        raise ValueError(f"{next(iter(lengths))}: an empty list; give at least one request")
    if count > 1 and isinstance(given["generator"], torch.Generator):
        raise ValueError(f"one generator for {count} requests; give a list of generators")
    requests = [{name: value[i] if name in lengths else value for name, value in given.items()} for i in range(count)]
    for request in requests:
        _check(request)
    return requests


def _check(request: dict[str, Any]) -> None:
    video, background = request["reference_video"], request["background"]
    for name, value, axes in (("reference_video", video, 4), ("background", background, 3)):
        if value.dtype != np.uint8 or value.ndim != axes or value.shape[-1] != 3 or not len(value):
            raise ValueError(
                f"{name} is {value.dtype} {value.shape}; give uint8 RGB of {axes} axes, the last of size 3"
            )
        if any(size % TOKEN_PIXELS for size in value.shape[-3:-1]):
            raise ValueError(f"{name} is {value.shape}; give a height and a width that are multiples of {TOKEN_PIXELS}")
    boxes, mask = request["reference_boxes"], request["background_mask"]
    if boxes is not None and boxes.shape != (len(video), 4):
        raise ValueError(
            f"reference_boxes is {boxes.shape} for {len(video)} frames; give one box [x0, y0, x1, y1] a frame"
        )
    if mask is not None and (mask.shape != background.shape[:2] or mask.dtype != np.bool_):
        raise ValueError(f"background_mask is {mask.dtype} {mask.shape}; give bool {background.shape[:2]}")
    if not len(request["driving_audio"]):
        raise ValueError("driving_audio is empty; give speech at 16 kHz")
