"""Sounds made from physics alone: voices that talk, laugh, shout, scream and cry, and the noises of a home."""

from earmark_data.synth.contour import PEAK, SAMPLE_RATE_HZ, Sound
from earmark_data.synth.crying import baby_cry, cry
from earmark_data.synth.household import dishes, dog_bark, door_knock, fan, footsteps, kettle, running_water, television_music
from earmark_data.synth.laughing import laughter
from earmark_data.synth.screaming import scream, shout
from earmark_data.synth.speech import Speaker, babble

__all__ = [
    "PEAK",
    "SAMPLE_RATE_HZ",
    "Sound",
    "Speaker",
    "babble",
    "baby_cry",
    "cry",
    "dishes",
    "dog_bark",
    "door_knock",
    "fan",
    "footsteps",
    "kettle",
    "laughter",
    "running_water",
    "scream",
    "shout",
    "television_music",
]
