"""torchaudio's transforms beside any build of torch.

The published torchaudio wheels link CUDA and fail to load beside a CPU torch (OSError), while the transforms are pure
PyTorch. torchaudio looks for its compiled library with `Path.glob`; while it is imported here that finds nothing, so the
library is not loaded and the transforms work everywhere.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

with mock.patch.object(Path, "glob", return_value=()):
    from torchaudio import transforms

FrequencyMasking = transforms.FrequencyMasking
TimeMasking = transforms.TimeMasking
MelSpectrogram = transforms.MelSpectrogram
Resample = transforms.Resample

__all__ = ["FrequencyMasking", "MelSpectrogram", "Resample", "TimeMasking"]
