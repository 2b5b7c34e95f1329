"""Parameters of the stage `pairs`; values live in `conf/stage/pairs.yaml`."""

from dataclasses import dataclass


@dataclass
class PairsConfig:
    """Which clips make a cross-scene pair, and which people are kept for the benchmark.

    Attributes:
        identity: folder of the face network.
        people: folder of the person segmenter.
        review: file of review decisions (`docs/schemas/review.schema.json`).
        sampled_frames: evenly spaced frames of a clip whose faces are compared.
        min_face_share: a clip with a face in fewer of them is degraded and makes no pair.
        min_similarity: Chamfer similarity two clips of one person must reach (the paper says "high", no figure).
        link_similarity: cosine of mean faces at which clips under two labels count as one identity when splitting.
        background_frames: evenly spaced frames whose backgrounds are compared.
        background_pool: backgrounds are averaged over blocks of this many pixels before comparing; 1 compares pixels.
        min_background_share: least share of the picture that must be background in both clips.
        max_background_psnr: above this many dB two clips show one scene and make no pair.
        benchmark_people: identities kept for the benchmark (158 in the paper).
        seed: chooses which identities those are.
    """

    identity: str
    people: str
    review: str
    sampled_frames: int
    min_face_share: float
    min_similarity: float
    link_similarity: float
    background_frames: int
    background_pool: int
    min_background_share: float
    max_background_psnr: float
    benchmark_people: int
    seed: int


@dataclass
class CheckPairsConfig:
    """What `check_pairs` demands: the thresholds of `pairs`, and enough accepted pairs in each split."""

    min_similarity: float
    max_background_psnr: float
    min_benchmark_pairs: int
    min_train_pairs: int
