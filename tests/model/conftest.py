from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from earmark_data.audio import read_audio

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"


@pytest.fixture(scope="session")
def real_clips() -> list[np.ndarray]:
    """Two seconds of one real clip of each of several sources of the corpus."""
    folders = sorted((CORPUS / "audio").glob("*"))[::4]
    if not folders:
        pytest.skip("no corpus at ../shared/corpus: real clips are compared only where it is")
    clips = [read_audio(min(folder.iterdir()), duration_s=2.0) for folder in folders]
    return [np.pad(clip, (0, 32_000 - clip.size)) for clip in clips]
