"""The rows that cross stage borders, one dataclass a manifest. Column order is field order; `id_column` sorts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One TalkVid record of the snapshot with its file (`data/sources/manifest.parquet`)."""

    record_id: str
    source_key: str
    source_sha256: str
    path: str
    start_ms: int
    end_ms: int
    rights: str
    retrieved_at: str
    metadata: str


@dataclass(frozen=True)
class Clip:
    """One normalised clip (`data/ingest/manifest.parquet`): mp4 without sound, wav 16 kHz mono beside it.

    `path` and `audio_path` are relative to `data/ingest`. The first audio sample belongs to the first frame.
    """

    clip_id: str
    record_id: str
    source_key: str
    source_sha256: str
    clip_sha256: str
    person_id: str
    path: str
    audio_path: str
    start_ms: int
    end_ms: int
    frames: int
    fps: int
    height: int
    width: int
    sample_rate: int
    caption: str
    language: str
    gender: str
    age_group: str
    ethnicity: str
    dover: float
    cotracker: float
    rights: str


@dataclass(frozen=True)
class ClipFace:
    """The unit mean face of one clip (`data/ingest/faces.parquet`), by which a person is found without an id."""

    clip_id: str
    person_id: str
    vector: list[float]


@dataclass(frozen=True)
class ClipPair:
    """An ordered pair of clips of one person in two scenes (`data/pairs/manifest.parquet`).

    `identity` names the connected component; the split is disjoint by it. `review` is accepted, pending or rejected.
    """

    pair_id: str
    ref_clip_id: str
    target_clip_id: str
    person_id: str
    identity: str
    split: str
    id_similarity: float
    background_psnr: float
    review: str
    reviewer: str
    assurance: str


@dataclass(frozen=True)
class ClipSplit:
    """Which split a clip belongs to (`data/pairs/clips.parquet`); benchmark people never train."""

    clip_id: str
    person_id: str
    identity: str
    split: str


@dataclass(frozen=True)
class CachedClip:
    """One cached tensor of one clip (`data/latents/manifest.parquet`, the shard index).

    `key` is `<window>/<name>`, with window `target0`, `ref0`, ... or `clip`; `offset` is the tensor's first byte in
    the shard file; `start_frame` and `frames` say which pixel frames of the clip the tensor covers.
    """

    clip_id: str
    key: str
    shard: str
    offset: int
    nbytes: int
    start_frame: int
    frames: int
    person_id: str


@dataclass(frozen=True)
class PreferencePair:
    """Two generations of one condition, both by the stage2 model (`data/preferences/manifest.parquet`)."""

    preference_id: str
    pair_id: str
    ref_clip_id: str
    target_clip_id: str
    person_id: str
    ref_key: str
    target_key: str
    ref_latent_frames: int
    winner_seed: int
    loser_seed: int
    winner_similarity: float
    loser_similarity: float
    margin: float
    drawn: int
    shard: str


@dataclass(frozen=True)
class Score:
    """One metric row of the benchmark (`data/benchmark/manifest.parquet`): one generated video of one method."""

    score_id: str
    pair_id: str
    method: str
    person_id: str
    ref_frames: int
    seed: int
    id_ref: float
    id_target: float
    sync_c: float
    sync_d: float
    vq: float
    mq: float
    ta: float
    overall: float
    frames: int
    faceless_frames: int
    path: str


@dataclass(frozen=True)
class Consumed:
    """One row of the consumption ledger (`data/<stage>/ledger.parquet`): one sample of one global batch."""

    stage: str
    step: int
    slot: int
    clip_ids: list[str]
    segment: str
    ref_window: str
    used: bool
    reason: str


@dataclass(frozen=True)
class Refused:
    """A record that went to quarantine with its reason (`data/<stage>/quarantine.parquet`, `reports/<stage>/`)."""

    record_id: str
    rule: str
    reason: str


@dataclass(frozen=True)
class PinnedWeight:
    """One file of a pretrained network (`data/weights/manifest.parquet`)."""

    path: str
    role: str
    origin: str
    revision: str
    sha256: str
    licence: str
