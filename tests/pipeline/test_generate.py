"""`tavr generate` on a model that the pipeline has just trained, with recorded speech; refusals by name."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from real_media import real_speech
from tavr_records.media import read_video, write_video, write_wav

from .conftest import Clone

RATE = 16000


@pytest.fixture(scope="module")
def media(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded speech, a reference with sound, an empty room, and inputs that do not serve."""
    folder = tmp_path_factory.mktemp("media")
    write_wav(folder / "speech.wav", real_speech(2.0, RATE)[: 3 * RATE], RATE)
    write_wav(folder / "silence.wav", np.zeros(RATE, np.float32), RATE)
    write_wav(folder / "telephone.wav", real_speech(2.0, 8000), 8000)
    clip = min((finished.path / "data/ingest/clips").glob("*.mp4"))
    frames, _ = read_video(clip)
    tone = np.sin(np.arange(len(frames) * RATE // 25) / 9).astype(np.float32) / 3
    write_video(folder / "person.mp4", frames, 25, tone, RATE)
    write_video(folder / "short.mp4", frames[:3], 25, tone[: 3 * RATE // 25], RATE)
    write_video(folder / "mute.mp4", frames, 25)
    write_video(folder / "nobody.mp4", np.full_like(frames, 90), 25, tone, RATE)
    (folder / "broken.mp4").write_bytes(clip.read_bytes()[:500])
    room = np.broadcast_to(np.linspace(60, 200, 150)[None, :, None], (90, 150, 3)).astype(np.uint8)
    write_video(folder / "room.mp4", room[None], 25)
    return folder


def arguments(media: Path, out: Path, **changed: str) -> list[str]:
    given = {"reference": "person.mp4", "speech": "speech.wav", "background": "room.mp4"} | changed
    files = [part for name, value in given.items() if name in ("reference", "speech", "background")
             for part in (f"--{name}", str(media / value))]  # fmt: skip
    options = [
        part for name, value in changed.items() if name in ("ref-frames", "seed") for part in (f"--{name}", value)
    ]
    return ["tavr", "generate", ".", *files, "--out", str(out), "--steps", "2", "--prompt", "A person talks.", *options]


def test_it_speaks_as_long_as_the_speech_and_repeats_itself(finished: Clone, media: Path, tmp_path: Path) -> None:
    told = json.loads(finished.run(*arguments(media, tmp_path / "a.mp4"), "--json").stdout)
    assert (told["frames"], told["seconds"], told["joins"][:2]) == (75, 3.0, [21, 37])
    assert told["seams"]["ratio"] > 0
    assert told["seams"]["ratio_to_boundaries"] > 0
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert abs(float(container.duration / av.time_base) - 3.0) < 0.1
    frames, rate = read_video(tmp_path / "a.mp4")
    assert (frames.shape, rate) == ((75, 64, 112, 3), 25)
    assert frames.std() > 5
    finished.run(*arguments(media, tmp_path / "same.mp4"), "--explain", str(tmp_path / "attention.png"))
    assert read_video(tmp_path / "attention.png")[0].std() > 20
    finished.run(*arguments(media, tmp_path / "other.mp4", seed="1"))
    assert (tmp_path / "same.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()
    assert (tmp_path / "other.mp4").read_bytes() != (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reference": "nobody.mp4"}, "nobody.mp4: no_face"),
        ({"reference": "short.mp4"}, "short.mp4: too_short"),
        ({"reference": "mute.mp4"}, "mute.mp4: no_audio"),
        ({"reference": "broken.mp4"}, "broken.mp4: unreadable"),
        ({"speech": "silence.wav"}, "silence.wav: silence"),
        ({"speech": "telephone.wav"}, "telephone.wav: its sample rate is 8000 Hz"),
        ({"speech": "mute.mp4"}, "mute.mp4: no audio stream"),
        ({"background": "none.png"}, "none.png: not a readable video"),
        ({"ref-frames": "99"}, "--ref-frames is 99"),
    ],
)
def test_what_does_not_serve_is_one_line(
    finished: Clone, media: Path, tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    done = finished.run(*arguments(media, tmp_path / "out.mp4", **changed), check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.mp4").exists()
