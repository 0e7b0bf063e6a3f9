"""Print the installed size of an extra (default `edge`): a fresh virtual environment, without pip itself and without compiled caches."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND_MB = 220
_LISTED = 8


def main() -> None:
    """Install, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", default="edge")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packages = install(Path(folder), options.extra)
        sizes = sizes_mb(packages)
    total = sum(sizes.values())
    for name, size in sizes.most_common(_LISTED):
        print(f"{size:8.1f} MB  {name}")
    print(f"{total:8.1f} MB  earmark[{options.extra}] in all; {'met' if total <= BOUND_MB else 'not met'}: at most {BOUND_MB} MB")


def install(folder: Path, extra: str) -> Path:
    """The site-packages of a new environment with the extra."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[{extra}]"], check=True)
    return next((folder / "lib").glob("python*/site-packages"))


def sizes_mb(packages: Path) -> Counter[str]:
    """Megabytes (10^6 bytes) of files by top folder, pip and setuptools left out."""
    sizes: Counter[str] = Counter()
    for path in packages.rglob("*"):
        top = path.relative_to(packages).parts[0]
        if (
            path.is_file()
            and not path.is_symlink()
            and "__pycache__" not in path.parts
            and not top.startswith(("pip", "setuptools", "_distutils"))
        ):
            sizes[top] += path.stat().st_size
    return Counter({name: size / 1e6 for name, size in sizes.items()})


if __name__ == "__main__":
    main()
