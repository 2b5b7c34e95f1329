"""Generating one benchmark clip and taking the paper's metrics of it (paper section 4, Metrics)."""

import inspect
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tavr_model.conditions import Conditions
from tavr_model.generate import Sampling, generate_latents
from tavr_model.transformer import TAVRTransformer3DModel
from tavr_model.vae import decode_latents
from tavr_perception.identity import FaceIdentity, chamfer_similarity
from tavr_perception.keypoints import KeypointEstimator, face_boxes
from tavr_perception.lipsync import LipSync
from tavr_perception.reward import VideoReward
from tavr_records.ids import sha256_bytes
from tavr_records.media import Frames, Waveform, read_audio, read_video, write_video
from tavr_records.memo import Memo
from tavr_records.schemas import Clip, ClipPair, Score
from tavr_training.dataset import LatentStore, build_conditions

from tavr_benchmark.config import BenchmarkConfig, Method

WAN_ARGUMENTS = set(inspect.signature(WanTransformer3DModel.__init__).parameters)
TAVR_ARGUMENTS = set(inspect.signature(TAVRTransformer3DModel.__init__).parameters) - WAN_ARGUMENTS


def load_model(directory: Path, like: Path) -> TAVRTransformer3DModel:
    """A trained TAVR directory as it is; a plain Wan base with silent new layers, shaped as those of `like`.

    Args:
        directory: of a TAVRTransformer3DModel or a WanTransformer3DModel.
        like: a trained TAVR directory.
    """
    config = json.loads((directory / "config.json").read_text())
    if config["_class_name"] == TAVRTransformer3DModel.__name__:
        return TAVRTransformer3DModel.from_pretrained(directory).eval()
    shape = json.loads((like / "config.json").read_text())
    return TAVRTransformer3DModel.from_base(directory, **{name: shape[name] for name in TAVR_ARGUMENTS}).eval()


@dataclass(frozen=True)
class Task:
    """One generation to make and judge. `ref_clip_id` is the reference, `pair` gives everything else."""

    name: str
    method: Method
    pair: ClipPair
    ref_clip_id: str
    seed: int

    @property
    def score_id(self) -> str:
        """Digest of what makes this generation another than any other."""
        parts = (self.name, self.pair.pair_id, self.ref_clip_id, self.method.ref_latent_frames, self.seed)
        return sha256_bytes("|".join(map(str, parts)).encode())

    @property
    def path(self) -> str:
        """Where the video lies below `data/benchmark`."""
        return f"videos/{self.name}/{self.pair.pair_id}-{self.seed}.mp4"


class Scorer:
    """The frozen networks that judge, and the clips they judge against."""

    def __init__(self, config: BenchmarkConfig, root: Path) -> None:
        self.config = config
        self.data = root / "data/ingest"
        self.store = LatentStore(root / "data/latents")
        self.vae = AutoencoderKLWan.from_pretrained(root / config.vae)
        self.scheduler: Any = UniPCMultistepScheduler.from_pretrained(root / config.scheduler)
        self.identity = FaceIdentity(root / config.identity)
        self.keypoints = KeypointEstimator(root / config.keypoints)
        self.lipsync = LipSync(root / config.lipsync)
        self.reward = VideoReward(root / config.reward)
        self.one_at_a_time = threading.Lock()  # the VAE and the judges keep state of a call in themselves

    def target_media(self, clip: Clip) -> tuple[Frames, Waveform]:
        """The first `num_frames` frames of a clip and their sound."""
        frames, _ = read_video(self.data / clip.path)
        length = self.config.num_frames * self.config.sample_rate // self.config.fps
        return frames[: self.config.num_frames], read_audio(self.data / clip.audio_path, clip.sample_rate)[:length]

    def ref_media(self, clip: Clip, latent_frames: int) -> Frames:
        """The frames of a clip that `latent_frames` reference latents were encoded from."""
        start = self.store.row(clip.clip_id, "ref0/latents").start_frame
        frames, _ = read_video(self.data / clip.path)
        return frames[start : start + 4 * (latent_frames - 1) + 1]

    def generate(self, model: TAVRTransformer3DModel, task: Task, conditions: Conditions) -> Frames:
        """The generated frames [T, H, W, 3]."""
        shape: Any = self.store.tensor(task.pair.target_clip_id, "target0/latents").shape
        sampling = Sampling(self.config.steps, self.config.text_guidance, self.config.audio_guidance)
        latents = generate_latents(model, self.scheduler, conditions, (*shape,), task.seed, sampling)
        with self.one_at_a_time:
            return decode_latents(self.vae, latents).numpy()

    def score(self, task: Task, frames: Frames, target: Clip, ref: Clip) -> Score:
        """All metrics of one generation."""
        real, waveform = self.target_media(target)
        generated = self.identity.embed(frames)
        against_ref = self.identity.embed(self.ref_media(ref, task.method.ref_latent_frames))
        boxes = face_boxes(self.keypoints.estimate(frames), self.config.keypoint_min_score, self.config.face_expand)
        sync = self.lipsync.score(frames, boxes, waveform, self.config.fps)
        reward = self.reward.score(frames, self.config.fps, target.caption)
        return Score(
            score_id=task.score_id,
            pair_id=task.pair.pair_id,
            method=task.name,
            person_id=task.pair.person_id,
            ref_frames=4 * (task.method.ref_latent_frames - 1) + 1,
            seed=task.seed,
            id_ref=chamfer_similarity(generated, against_ref).value,
            id_target=chamfer_similarity(generated, self.identity.embed(real)).value,
            sync_c=sync.sync_c,
            sync_d=sync.sync_d,
            vq=reward.vq,
            mq=reward.mq,
            ta=reward.ta,
            overall=reward.overall,
            frames=len(frames),
            faceless_frames=int((~generated.found).sum()),
            path=task.path,
        )

    def run(self, model: TAVRTransformer3DModel, task: Task, target: Clip, ref: Clip, memo: Memo) -> Path:
        """Generate, write `clip.mp4` with the driving sound and `score.json`; what `memo` holds is not done again."""
        torch.set_num_threads(1)
        method = task.method
        conditions = build_conditions(self.store, ref.clip_id, target.clip_id, method.ref_latent_frames)

        def build(folder: Path) -> None:
            frames = self.generate(model, task, conditions)
            _, waveform = self.target_media(target)
            write_video(folder / "clip.mp4", frames, self.config.fps, waveform, self.config.sample_rate)
            with self.one_at_a_time:
                score = self.score(task, frames, target, ref)
            # Not canonical JSON: a clip without a face has no sync, which is NaN.
            (folder / "score.json").write_text(json.dumps(asdict(score), sort_keys=True))

        key = {"task": task.score_id, "conditions": conditions.digest(), "clips": [target.clip_sha256, ref.clip_sha256]}
        return memo.entry(key, build)
