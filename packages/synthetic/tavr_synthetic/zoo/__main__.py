"""`make zoo`: train every tiny network again, in the order they need each other, and pin the files. Takes hours."""

import shlex
import subprocess
import sys
from pathlib import Path

from tavr_synthetic.zoo.pins import COMMANDS, write_pins

ORDER = ("text_encoder", "speech", "lipsync", "reward", "detector", "identity", "keypoints", "people", "vae", "base")


def main() -> None:
    """Run the trainers one after another; stop at the first that fails."""
    for role in ORDER:
        print(f"zoo: {role}: {COMMANDS[role]}", flush=True)
        subprocess.run([sys.executable, *shlex.split(COMMANDS[role])[1:]], check=True)
    write_pins(Path("packages/synthetic/zoo"))


if __name__ == "__main__":
    main()
