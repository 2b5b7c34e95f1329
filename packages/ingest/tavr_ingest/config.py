"""Parameters of the stage `ingest`; values live in `conf/stage/ingest.yaml`."""

from dataclasses import dataclass


@dataclass
class HeadScores:
    """TalkVid's least head scores (its `head_threshold.yml`), each 0..100 except resolution, which may exceed 100."""

    avg_movement: float
    min_movement: float
    avg_rotation: float
    min_rotation: float
    avg_completeness: float
    min_completeness: float
    avg_resolution: float
    min_resolution: float
    avg_orientation: float
    min_orientation: float


@dataclass
class Filters:
    """TalkVid's published filters on a record's metadata; a record that breaks one is refused by the filter's name."""

    min_seconds: float
    min_dover: float
    min_cotracker: float
    max_cotracker: float
    head: HeadScores


@dataclass
class SceneCut:
    """PySceneDetect: `detector` is `content` or `histogram`; a clip with a cut is refused."""

    detector: str
    threshold: float


@dataclass
class Face:
    """When a clip shows a face, and how the crop lies around it.

    Of `sampled_frames` evenly spaced frames, the share `min_share` must show a face to both the keypoint estimator
    (half of the points scoring `min_score`) and the face detector. The crop is the largest window centred on the face,
    with the face's middle at `row` of its height, but never narrower than `min_cover` of the largest window.
    """

    sampled_frames: int
    min_score: float
    min_share: float
    row: float
    min_cover: float


@dataclass
class IngestConfig:
    """TalkVid records to clips of `height` x `width` pixels at `fps`, with sound at `sample_rate` Hz.

    `dataset` and the key in `person_key` make the pseudonyms; `person_key_sha256` names the key when it is not in git.
    Clips hold at most `max_frames` frames and at least `min_frames`. `crf` is x264's quality.
    """

    dataset: str
    person_key: str
    person_key_sha256: str | None
    keypoints: str
    identity: str
    height: int
    width: int
    fps: int
    sample_rate: int
    min_frames: int
    max_frames: int
    crf: int
    filters: Filters
    scene_cut: SceneCut
    face: Face


@dataclass
class CheckIngestConfig:
    """What `check_ingest` demands of the clips, by the same shape and filters as `ingest`, and of their number."""

    height: int
    width: int
    fps: int
    sample_rate: int
    min_frames: int
    max_frames: int
    filters: Filters
    min_clips: int
    max_refused_share: float
