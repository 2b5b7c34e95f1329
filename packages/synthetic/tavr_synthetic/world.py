"""The embedded world: who appears where and when, as seeds only, and how a planned clip becomes an mp4.

`plan_world` is pure and instant; every clip can be rendered on its own, in any order and process, to the same bytes.
People of a world have seeds from a billion on, which no training of the zoo uses: they are strangers to its networks.
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tavr_records.atomic import atomic_file, write_bytes

from tavr_synthetic.backgrounds import box_blur
from tavr_synthetic.captions import describe
from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import Person, dressed, sample_person
from tavr_synthetic.pose import HEAD_UNITS_PER_FRAME_HEIGHT
from tavr_synthetic.render import KEYPOINT_NAMES, Truth, render_clip, render_room, to_bytes
from tavr_synthetic.scenes import sample_scene
from tavr_synthetic.speech import synthesize
from tavr_synthetic.talkvid import GOOD_DOVER, LOW_DOVER, VIDEO_CATEGORIES, clip_key, describe_person, score_head, times
from tavr_synthetic.video import write_mp4

FIRST_PERSON = 1_000_000_000
PEOPLE_PER_WORLD = 1_000_000
SAMPLE_RATE = 16_000
OTHER_CLOTHES = 0.3
"""Share of the scenes in which a person wears something else."""
REJECTS = ("low_dover", "no_audio", "hard_cut", "duplicate", "too_short", "corrupt", "missing_field", "no_face")
DROPPED_FIELDS = ("end-time", "dover_scores", "fps", "info")
URL_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class WorldConfig:
    """Sizes of a world; fps in frames a second, height and width in pixels (even).

    rejects: how many clips deserve rejection, cycling through REJECTS; True is one of each, False none.
    """

    people: int
    scenes_per_person: int
    clips_per_scene: int
    clip_frames: int
    fps: float
    height: int
    width: int
    seed: int
    rejects: bool | int


@dataclass(frozen=True)
class PlannedClip:
    """Everything that determines a clip. center: fractions of width and height; reject: its fault, if any.

    outfit_seed is None where the person wears the usual clothes; after a hard cut the clip goes on as `cut_to`;
    `dropped_field` is missing from the metadata.
    """

    key: str
    video: str
    person_id: str
    person_seed: int
    outfit_seed: int | None
    scene_seed: int
    motion_seed: int
    start_frame: int
    frames: int
    fps: float
    height: int
    width: int
    center: tuple[float, float]
    scale: float
    reject: str | None = None
    cut_to: "PlannedClip | None" = None
    dropped_field: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the mp4."""
        return f"{self.key}.mp4"

    def person(self) -> Person:
        """The person, dressed for this clip."""
        person = sample_person(self.person_seed)
        return person if self.outfit_seed is None else dressed(person, self.outfit_seed)


@dataclass(frozen=True)
class Rendered:
    """frames uint8 [T, H, W, 3]; waveform float32 [samples] or None; what is true of them."""

    frames: npt.NDArray[np.uint8]
    waveform: npt.NDArray[np.float32] | None
    truth: Truth


def _seed(*parts: object) -> int:
    """A 48-bit seed from a path of names and numbers."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _video_name(*parts: object) -> str:
    """Eleven letters as in a video platform's address."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return "".join(URL_LETTERS[byte % 64] for byte in digest[:11])


def _plan_clip(config: WorldConfig, person: int, scene: int, section: int) -> PlannedClip:
    """One good clip: section `section` of the video of `person` in `scene`."""
    rng = np.random.default_rng(_seed(config.seed, "camera", person, scene))
    video = _video_name(config.seed, person, scene)
    lead_in = int(rng.integers(0, 200)) if scene % 2 else 0
    return PlannedClip(
        key=clip_key(video, scene + 1, section + 1),
        video=video,
        person_id=str(person + 1),
        person_seed=FIRST_PERSON + config.seed * PEOPLE_PER_WORLD + person,
        outfit_seed=_seed(config.seed, "outfit", person, scene) if rng.random() < OTHER_CLOTHES else None,
        scene_seed=_seed(config.seed, "scene", person, scene),
        motion_seed=_seed(config.seed, "motion", person, scene, section),
        start_frame=lead_in + section * (config.clip_frames + 12),
        frames=config.clip_frames,
        fps=config.fps,
        height=config.height,
        width=config.width,
        center=(float(rng.uniform(0.44, 0.56)), float(rng.uniform(0.46, 0.50))),
        scale=float(rng.uniform(1.06, 1.18)),
    )


def _plan_reject(config: WorldConfig, index: int, good: list[PlannedClip]) -> PlannedClip:
    """The index-th clip that deserves rejection: a clip of a known person in a new scene, with one fault."""
    reason = REJECTS[index % len(REJECTS)]
    clip = _plan_clip(config, index % config.people, config.scenes_per_person + index, 0)
    clip = replace(clip, reject=reason)
    if reason == "hard_cut":
        other = _plan_clip(config, (index + 1) % config.people, config.scenes_per_person + index, 1)
        return replace(clip, cut_to=replace(other, frames=clip.frames - clip.frames // 2))
    if reason == "duplicate":
        original = good[index % len(good)]
        return replace(original, key=clip.key, video=clip.video, reject=reason)
    if reason == "too_short":
        return replace(clip, frames=max(5, config.clip_frames // 5))
    if reason == "missing_field":
        return replace(clip, dropped_field=DROPPED_FIELDS[index // len(REJECTS) % len(DROPPED_FIELDS)])
    return clip


def plan_world(config: WorldConfig) -> list[PlannedClip]:
    """All clips of the world, the faulty ones last; nothing is rendered yet.

    Raises:
        ValueError: a size is not positive or odd, or the people do not fit a world.
    """
    sizes = (config.people, config.scenes_per_person, config.clips_per_scene, config.clip_frames, config.fps)
    if min(sizes) <= 0 or config.people > PEOPLE_PER_WORLD:
        raise ValueError(f"a world needs positive sizes and at most {PEOPLE_PER_WORLD} people: {config}")
    if config.height <= 0 or config.width <= 0 or config.height % 2 or config.width % 2:
        raise ValueError(f"height and width must be positive and even, not {config.height} and {config.width}")
    good = [
        _plan_clip(config, person, scene, section)
        for person in range(config.people)
        for scene in range(config.scenes_per_person)
        for section in range(config.clips_per_scene)
    ]
    faulty = len(REJECTS) if config.rejects is True else int(config.rejects)
    return good + [_plan_reject(config, index, good) for index in range(faulty)]


def _no_truth(frames: int, height: int, width: int) -> Truth:
    """The truth about an empty room."""
    return Truth(
        person_mask=np.zeros((frames, height, width), dtype=np.bool_),
        face_box=np.zeros((frames, 4), dtype=np.float32),
        keypoints=np.zeros((frames, len(KEYPOINT_NAMES), 2), dtype=np.float32),
        mouth_open=np.zeros(frames, dtype=np.float32),
    )


def _joined(first: Rendered, second: Rendered) -> Rendered:
    """One clip after the other."""
    assert first.waveform is not None
    assert second.waveform is not None
    pairs = {
        name: np.concatenate([getattr(first.truth, name), getattr(second.truth, name)])
        for name in ("person_mask", "face_box", "keypoints", "mouth_open")
    }
    frames = np.concatenate([first.frames, second.frames])
    return Rendered(frames, np.concatenate([first.waveform, second.waveform]), Truth(**pairs))


def _blurred(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Badly out of focus."""
    soft = frames.astype(np.float32) * np.float32(1 / 255)
    radius = max(1, frames.shape[1] // 16)
    for axis in (1, 2, 1, 2):
        soft = box_blur(soft, radius, axis)
    return to_bytes(soft)


def render(clip: PlannedClip) -> Rendered:
    """Frames, sound and truth of a planned clip, its visible faults included."""
    if clip.cut_to is not None:
        before = replace(clip, frames=clip.frames - clip.cut_to.frames, cut_to=None)
        return _joined(render(before), render(clip.cut_to))
    person, scene = clip.person(), sample_scene(clip.scene_seed)
    speech = synthesize(person.voice, clip.motion_seed, clip.frames / clip.fps, SAMPLE_RATE, clip.fps)
    if clip.reject == "no_face":
        room = render_room(scene, clip.frames, clip.height, clip.width)
        return Rendered(room, speech.waveform, _no_truth(clip.frames, clip.height, clip.width))
    motion = sample_motion(clip.motion_seed, clip.frames, clip.fps)
    frames, truth = render_clip(
        person, scene, motion, speech.mouth_open, clip.height, clip.width, clip.center, clip.scale
    )
    if clip.reject == "low_dover":
        frames = _blurred(frames)
    return Rendered(frames, None if clip.reject == "no_audio" else speech.waveform, truth)


def _encoded(clip: PlannedClip, rendered: Rendered) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "clip.mp4"
        write_mp4(path, rendered.frames, rendered.waveform, clip.fps, SAMPLE_RATE)
        data = path.read_bytes()
    return data[: len(data) * 3 // 5] if clip.reject == "corrupt" else data


def render_bytes(clip: PlannedClip) -> bytes:
    """The mp4 file of a planned clip."""
    return _encoded(clip, render(clip))


def render_planned(clip: PlannedClip, directory: Path, truth_dir: Path | None = None) -> Path:
    """Write the clip's mp4 into `directory` and, when asked, the truth about it into `truth_dir`."""
    rendered = render(clip)
    path = directory / clip.file_name
    write_bytes(path, _encoded(clip, rendered))
    if truth_dir is not None:
        _write_truth(clip, rendered.truth, truth_dir)
    return path


def _write_truth(clip: PlannedClip, truth: Truth, directory: Path) -> None:
    """<key>.npz: the arrays of `Truth`, and seeds and fault as JSON bytes under `facts`."""
    facts = {"key": clip.key, "person_seed": clip.person_seed, "scene_seed": clip.scene_seed, "reject": clip.reject}
    with atomic_file(directory / f"{clip.key}.npz") as temporary:
        np.savez_compressed(
            temporary,
            person_mask=truth.person_mask,
            face_box=truth.face_box,
            keypoints=truth.keypoints,
            mouth_open=truth.mouth_open,
            facts=np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8),
        )


def make_record(clip: PlannedClip) -> dict[str, Any]:
    """The clip's metadata in TalkVid's format (`talkvid.Record`, less a field where that is the fault)."""
    person, scene = clip.person(), sample_scene(clip.scene_seed)
    motion = sample_motion(clip.motion_seed, clip.frames, clip.fps)
    rng = np.random.default_rng(_seed("metadata", clip.key))
    start, end, duration = times(clip.start_frame, clip.frames, clip.fps)
    dover = LOW_DOVER if clip.reject == "low_dover" else GOOD_DOVER
    category = VIDEO_CATEGORIES[clip.person_seed % len(VIDEO_CATEGORIES)]
    record: dict[str, Any] = {
        "id": clip.key,
        "height": clip.height,
        "width": clip.width,
        "fps": float(clip.fps),
        "start-time": start,
        "start-frame": clip.start_frame,
        "end-time": end,
        "end-frame": clip.start_frame + clip.frames,
        "durations": duration,
        "info": describe_person(person, clip.person_id, clip.video, category),
        "description": describe(person, scene, motion, rng),
        "dover_scores": round(float(rng.uniform(*dover)), 2),
        "cotracker_ratio": round(float(rng.uniform(0.84, 0.98)), 6),
        "head_detail": score_head(motion, 1.72 * HEAD_UNITS_PER_FRAME_HEIGHT * clip.height * clip.scale, rng),
    }
    if clip.dropped_field is not None:
        del record[clip.dropped_field]
    return record


def write_metadata(clips: list[PlannedClip], path: Path) -> None:
    """All records as one JSON list, as TalkVid ships them."""
    records = [make_record(clip) for clip in clips]
    write_bytes(path, (json.dumps(records, indent=1, ensure_ascii=False) + "\n").encode())
