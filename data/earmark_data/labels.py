"""From what data sets call a sound to the seven labels that Earmark learns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earmark_model.contract import LABELS

MANIFEST_LABELS = {
    "scream": "scream",
    "cry": "cry",
    "baby_cry": "baby_cry",
    "shout": "shout",
    "laughter": "laughter",
    "speech": "speech",
    "other_human": "other",
    "background": "other",
}
"""Manifest label to model label."""

TAGGER_LABELS: dict[str, tuple[str, ...]] = {
    "scream": ("Screaming",),
    "cry": ("Crying, sobbing", "Whimper"),
    "baby_cry": ("Baby cry, infant cry",),
    "shout": ("Shout", "Yell", "Bellow", "Children shouting", "Battle cry"),
    "laughter": ("Laughter", "Baby laughter", "Giggle", "Snicker", "Belly laugh", "Chuckle, chortle"),
    "speech": ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue"),
}
"""Model label to the AudioSet display names that mean it. `other` has none: it is what is left."""


def target_vector(label: str) -> NDArray[np.float32]:
    """One-hot `[labels]` for a manifest label.

    Raises:
        KeyError: the manifest label is unknown.
    """
    vector = np.zeros(len(LABELS), np.float32)
    vector[LABELS.index(MANIFEST_LABELS[label])] = 1.0
    return vector
