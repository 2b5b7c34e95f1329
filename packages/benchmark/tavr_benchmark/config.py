"""Parameters of `benchmark` and `check_benchmark`."""

from dataclasses import dataclass
from enum import Enum


class Reference(Enum):
    """Whose video a method is given as reference: the target's own person, or (a control) somebody else."""

    own = "own"
    other = "other"


@dataclass
class Method:
    """One row of the tables: a model directory (ours, or a plain Wan base), and how it is referenced."""

    model: str
    ref_latent_frames: int
    reference: Reference


@dataclass
class BenchmarkConfig:
    """What is compared, and how every clip is generated and judged.

    Attributes:
        methods: name -> method; `candidate` is the one that would be promoted, `baseline` what it must beat.
        seeds: generations a pair and method; scores are averaged over them.
        confidence: of the bootstrap intervals over pairs.
    """

    methods: dict[str, Method]
    candidate: str
    baseline: str
    seeds: int
    vae: str
    scheduler: str
    identity: str
    keypoints: str
    lipsync: str
    reward: str
    keypoint_min_score: float
    face_expand: float
    fps: int
    sample_rate: int
    num_frames: int
    steps: int
    text_guidance: float
    audio_guidance: float
    confidence: float
    resamples: int
    seed: int


@dataclass
class CheckBenchmarkConfig:
    """Limits of `check_benchmark`."""

    min_pairs: int
    max_faceless_share: float
