"""`tavr find-person`: a face without an id, compared with the faces that `ingest` kept of every clip."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tavr_lineage.git import main_checkout, read_file, repository_root
from tavr_lineage.outputs import stored_files
from tavr_lineage.withdrawal.affected import candidates
from tavr_lineage.withdrawal.inventory import checkouts, shown
from tavr_records.errors import InputError

FACES, CLIPS = "data/ingest/faces.parquet", "data/ingest/manifest.parquet"
IDENTITY = "data/weights/identity"
MAX_BYTES = 512 * 2**20
SAMPLED_FRAMES = 16
_COLUMNS = ("record_id", "source_key", "start_ms", "end_ms", "path")


@dataclass(frozen=True)
class Question:
    """Where the person is to be seen, and what counts as alike (cosine of mean faces, -1..1)."""

    image: Path | None
    video: Path | None
    url: str | None
    profile: str | None
    least: float
    limit: int


@dataclass(frozen=True)
class Outputs:
    """Files of one checkout or run by their name in a checkout; `name` says whose they are."""

    name: str
    files: dict[str, Path]


def propose_clips(root: Path, question: Question) -> dict[str, Any]:
    """Clips alike, best first, each with where it can be looked at.

    Raises:
        InputError: not exactly one of image, video and url; no face in it; or nothing kept to compare with.
    """
    root = repository_root(root)
    looked_at = [one for one in outputs(root, question.profile) if FACES in one.files and CLIPS in one.files]
    if not looked_at:
        raise InputError(f"{root}: no run kept faces ({FACES}); run `tavr retrain`, or `dvc repro` here")
    with tempfile.TemporaryDirectory() as folder:
        identity = _identity_folder(root, question.profile, Path(folder) / "identity")
        face, seen = _face(question, identity, Path(folder))
    best: dict[str, dict[str, Any]] = {}
    for one in looked_at:
        for proposal in _alike(root, one, face, question.least):
            known = best.get(proposal["clip_id"])
            if known is None or proposal["similarity"] > known["similarity"]:
                best[proposal["clip_id"]] = proposal
    ranked = sorted(best.values(), key=lambda row: (-row["similarity"], row["clip_id"]))[: question.limit]
    return {"frames_with_a_face": seen, "looked_at": [one.name for one in looked_at], "proposals": ranked}


def outputs(root: Path, profile: str | None) -> Iterator[Outputs]:
    """What checkouts hold, then what DVC's cache holds of each candidate."""
    for checkout in checkouts(root):
        wanted = [checkout / name for name in (FACES, CLIPS)]
        if profile is None and all(path.is_file() for path in wanted):
            files = {path.relative_to(checkout).as_posix(): path for path in (checkout / "data/ingest").rglob("*")}
            yield Outputs(shown(main_checkout(root), checkout), files)
    for one in candidates(root):
        if profile in (None, one.record["params"].get("_compose", {}).get("profile")):
            lock = read_file(root, one.commit, "dvc.lock") or b""
            stored = stored_files(lock, main_checkout(root) / ".dvc/cache")
            yield Outputs(str(one.record["run"]["run_id"]), {name: path for name, path in stored if path.is_file()})


def print_proposals(found: dict[str, Any]) -> None:
    """The proposals as lines, and what to do with them."""
    print(f"a face in {found['frames_with_a_face']} frames; compared with {', '.join(found['looked_at'])}")
    for row in found["proposals"]:
        span = f"{row['source_key']} {row['start_ms']}..{row['end_ms']} ms"
        print(f"{row['similarity']:.2f}  clip {row['clip_id']}  person {row['person_id']}  {span}  {row['file']}")
    if found["proposals"]:
        print("look at each; then withdraw what is confirmed: `tavr withdraw --person ID --reason TEXT`")
    else:
        print("no clip is alike enough; try --least with a smaller value")


def _alike(root: Path, one: Outputs, face: NDArray[np.float32], least: float) -> Iterator[dict[str, Any]]:
    faces: Any = pq.read_table(one.files[FACES].open("rb"))
    vectors = np.asarray(faces["vector"].to_pylist(), np.float32).reshape(len(faces), -1)
    if len(faces) and vectors.shape[1] != len(face):
        raise InputError(f"{one.name}: its faces were made by another identity network; name its --profile")
    similarity = vectors @ face if len(faces) else np.zeros(0, np.float32)
    rows = {row["clip_id"]: row for row in pq.read_table(one.files[CLIPS].open("rb")).to_pylist()}
    for index in np.flatnonzero(similarity >= least):
        clip = faces["clip_id"][int(index)].as_py()
        row = rows[clip]
        file = one.files.get(f"data/ingest/{row['path']}")
        yield {
            "clip_id": clip,
            "person_id": row["person_id"],
            "similarity": round(float(similarity[index]), 4),
            "in": one.name,
            "file": shown(main_checkout(root), file) if file is not None else "",
            **{name: row[name] for name in _COLUMNS},
        }


def _face(question: Question, identity: Path, folder: Path) -> tuple[NDArray[np.float32], int]:
    """The unit mean face of what is shown, float32 [D], and in how many frames there was one.

    Raises:
        InputError: not exactly one of image, video and url; unreadable; no face.
    """
    from tavr_ingest.normalise import unit_mean
    from tavr_perception.identity import FaceIdentity

    given = [value for value in (question.image, question.video, question.url) if value]
    if len(given) != 1:
        raise InputError("find-person: give one of --image, --video and --url")
    path = _fetch(question.url, folder / "download") if question.url else Path(str(given[0]))
    faces = FaceIdentity(identity).embed(_frames(path))
    if not faces.found.any():
        raise InputError(f"{given[0]}: no face found; give a picture in which the face is larger")
    return unit_mean(faces.vectors), int(faces.found.sum())


def _frames(path: Path) -> NDArray[np.uint8]:
    """A picture as one frame, or at most `SAMPLED_FRAMES` frames of a video: RGB uint8 [T, H, W, 3]."""
    from PIL import Image, UnidentifiedImageError
    from tavr_records.media import read_video

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)[None]
    except UnidentifiedImageError:
        pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); give a picture or a video") from error
    frames, _ = read_video(path)
    return frames[np.unique(np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).round().astype(int))]


def _fetch(url: str, target: Path) -> Path:
    from tavr_sources.fetch import FetchError, download, fetch

    try:
        if url.startswith(("http://", "https://")):
            download(url, target, MAX_BYTES)
        elif url.startswith("ytdlp:"):
            fetch(url, (0, 60_000), target, Path(), None)
        else:
            raise InputError(f"--url {url}: give http://, https:// or ytdlp:<address>")
    except FetchError as error:
        raise InputError(f"--url {url}: cannot be fetched ({error})") from error
    return target


def _identity_folder(root: Path, profile: str | None, target: Path) -> Path:
    """The identity network that made the kept faces: of a checkout, else linked out of DVC's cache.

    Raises:
        InputError: no run's weights are here.
    """
    for checkout in checkouts(root):
        if profile is None and (checkout / IDENTITY / "config.json").is_file():
            return checkout / IDENTITY
    for one in outputs(root, profile):
        files = {name: path for name, path in one.files.items() if name.startswith(f"{IDENTITY}/")}
        if files:
            for name, path in files.items():
                copy = target / name.removeprefix(f"{IDENTITY}/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            return target
    raise InputError(f"{root / IDENTITY}: no identity network here; run the stage `weights`")
