"""Build both container files and run what they make as they say: `python -m bench.containers`, as root on Debian.

No image registry is asked. Debian's own Python of the same version and release stands in for the image that the files begin with, under
its name; every step of the files then runs as it is written. The device hears a recording with the options that its file's first lines
name, the sound card apart, and without any network; the review service must answer. Exits with 1 where either does not.
Needs podman, runc and mmdebstrap, which are packages of Debian's, and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earmark_data.synth.screaming import scream

ROOT = Path(__file__).resolve().parents[1]
DEVICE, SERVICE = ROOT / "deploy" / "Containerfile", ROOT / "deploy" / "review.Containerfile"
RATE_HZ = 16_000
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
_PATIENCE_S = 60
_STAND_IN = """FROM scratch
ADD root.tar /
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
RUN ln -s /usr/bin/python3 /usr/local/bin/python
"""
_ASK = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8600/healthz', timeout=5).status)"


def main() -> None:
    """Build, run, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where images are kept for the next time; by default they are forgotten")
    options = parser.parse_args()
    with _folder(options.folder) as folder:
        images = Images(folder)
        images.stand_in(*_begins_with(DEVICE, SERVICE))
        images.build(DEVICE, "earmark-edge")
        images.build(SERVICE, "earmark-review")
        heard, answered = _device_hears(images, folder), _service_answers(images)
    print(f"the device, from its container file: {heard}\nthe service, from its container file: {answered}")
    sys.exit(0 if heard.startswith("heard") and answered.startswith("answered") else 1)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def _begins_with(*files: Path) -> tuple[str, str]:
    """The image that every stage of `files` begins with, and the release of Debian that it names."""
    (image,) = {word for path in files for word in re.findall(r"^FROM (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    return image, image.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Images:
    """podman with images of its own in a folder."""

    folder: Path

    def podman(self, *arguments: str, is_shown: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman; its standard output is kept, what it tells of its work is shown."""
        where = ("--root", str(self.folder / "images"), "--runroot", str(self.folder / "run"))
        command = ["podman", *where, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--runtime", "runc", *arguments]
        return subprocess.run(
            command, cwd=ROOT, text=True, check=False, stdout=subprocess.PIPE, stderr=None if is_shown else subprocess.PIPE
        )

    def stand_in(self, image: str, release: str) -> None:
        """A root file system of Debian's packages under the name of `image`; nothing where it is there already."""
        if self.podman("image", "exists", image).returncode == 0:
            return
        with tempfile.TemporaryDirectory() as name:
            root = Path(name) / "root.tar"
            packages = "--include=python3,python3-venv,ca-certificates"
            subprocess.run(["mmdebstrap", "--variant=minbase", packages, release, str(root)], check=True)
            (Path(name) / "Containerfile").write_text(_STAND_IN, encoding="utf-8")
            self._build("-t", image, name)

    def build(self, path: Path, tag: str) -> None:
        """What the container file makes, from this repository."""
        certificates = f"{_CERTIFICATES}:{_CERTIFICATES}:ro"  # a house with a certificate of its own in front of the package index
        self._build("--pull=never", "--volume", certificates, "-f", str(path), "-t", tag, str(ROOT))

    def _build(self, *arguments: str) -> None:
        done = self.podman("build", "--isolation", "chroot", *arguments)
        if done.returncode:
            print(done.stdout)
            sys.exit("the image was not built; what failed stands above")


def _as_documented() -> list[str]:
    """The options of `podman run` in the device's container file, without the sound card's."""
    text = DEVICE.read_text(encoding="utf-8").replace("\\\n#", "")
    (command,) = re.findall(r"^# +podman run (.*) earmark-edge listen mic$", text, re.MULTILINE)
    return shlex.split(re.sub(r"--(device|group-add) \S+", "", command))


def _device_hears(images: Images, folder: Path) -> str:
    audio = folder / "audio"
    audio.mkdir(exist_ok=True)
    room = np.random.default_rng(1).standard_normal(20 * RATE_HZ) * 0.001
    room[8 * RATE_HZ : 11 * RATE_HZ] += scream(np.random.default_rng(2), 3.0)[: 3 * RATE_HZ]
    with wave.open(str(audio / "evening.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((np.clip(room, -1, 1) * 32_767).astype("<i2").tobytes())
    audio.chmod(0o755)
    run = ("run", "--rm", *_LIMITS, "--network", "none", *_as_documented(), "-v", f"{audio}:/audio:ro")
    done = images.podman(*run, "earmark-edge", "listen", "/audio/evening.wav", "--fast", "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    events = [each for each in told if each["type"] == "event" and not each["canary"]]
    kept = images.podman(*run, "--entrypoint", "/bin/ls", "earmark-edge", "-ln", "/var/lib/earmark").stdout
    if done.returncode or not events:
        return f"NOT HEARD, status {done.returncode}: {done.stdout}"
    return f"heard {events[0]['label']} at {events[0]['onset_s']} s, and left in its volume:\n{kept}"


def _service_answers(images: Images) -> str:
    options = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop=all", "--security-opt=no-new-privileges")
    started = images.podman("run", "--rm", "--detach", *_LIMITS, *options, "earmark-review")
    if started.returncode:
        return "NOT STARTED"
    name, answer = started.stdout.strip(), ""
    until = time.monotonic() + _PATIENCE_S
    while not answer and time.monotonic() < until:
        time.sleep(1)
        answer = images.podman("exec", name, "/opt/earmark/bin/python", "-c", _ASK, is_shown=False).stdout.strip()
    said = images.podman("logs", name, is_shown=False).stdout
    images.podman("stop", name)
    return f"answered {answer} to /healthz" if answer == "200" else f"NO ANSWER: {said}"


if __name__ == "__main__":
    main()
