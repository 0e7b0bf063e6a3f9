"""Beginning with what a public tagger already hears: EfficientAT's mn04_as, trained on AudioSet (MIT licence)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from earmark_model.contract import LABELS, SENSITIVE
from earmark_model.network import Network

TAGGER = "mn04_as.pt"
CLASSES = 527
ANIMAL = "Animal"
"""The class of AudioSet above its cats, dogs and roosters."""
MEANS = {
    "scream": ("Screaming",),
    "cry": ("Crying, sobbing",),
    "baby_cry": ("Baby cry, infant cry",),
    "shout": ("Shout", "Yell"),
    "laughter": ("Laughter",),
    "speech": ("Speech",),
}
"""The classes of AudioSet whose weights a label begins with; `other` has none and begins at zero."""
ROWS = {
    "Speech": 0,
    "Male speech, man speaking": 1,
    "Female speech, woman speaking": 2,
    "Child speech, kid speaking": 3,
    "Conversation": 4,
    "Narration, monologue": 5,
    "Babbling": 6,
    "Shout": 8,
    "Bellow": 9,
    "Whoop": 10,
    "Yell": 11,
    "Battle cry": 12,
    "Children shouting": 13,
    "Screaming": 14,
    "Whispering": 15,
    "Laughter": 16,
    "Baby laughter": 17,
    "Giggle": 18,
    "Snicker": 19,
    "Belly laugh": 20,
    "Chuckle, chortle": 21,
    "Crying, sobbing": 22,
    "Baby cry, infant cry": 23,
    "Whimper": 24,
    "Wail, moan": 25,
    "Sigh": 26,
    "Singing": 27,
    "Choir": 28,
    "Chant": 30,
    "Child singing": 34,
    "Humming": 37,
    "Groan": 38,
    "Grunt": 39,
    "Whistling": 40,
    "Breathing": 41,
    "Wheeze": 42,
    "Snoring": 43,
    "Gasp": 44,
    "Pant": 45,
    "Cough": 47,
    "Throat clearing": 48,
    "Sneeze": 49,
    "Sniff": 50,
    "Cheering": 66,
    "Applause": 67,
    "Chatter": 68,
    "Crowd": 69,
    "Children playing": 71,
    "Animal": 72,
    "Dog": 74,
    "Bark": 75,
    "Yip": 76,
    "Howl": 77,
    "Whimper (dog)": 80,
    "Cat": 81,
    "Meow": 83,
    "Caterwaul": 85,
    "Chicken, rooster": 99,
    "Bird": 111,
    "Crow": 117,
    "Music": 137,
    "Wind": 283,
    "Water": 288,
    "Vehicle": 300,
    "Vehicle horn, car horn, honking": 308,
    "Car alarm": 310,
    "Engine": 343,
    "Door": 354,
    "Alarm": 388,
    "Siren": 396,
    "Smoke detector, smoke alarm": 399,
    "Steam whistle": 403,
    "Explosion": 426,
    "Gunshot, gunfire": 427,
    "Glass": 441,
    "Squeal": 485,
    "Silence": 500,
    "Inside, small room": 506,
    "Noise": 513,
    "White noise": 520,
    "Television": 524,
}
"""Row among the tagger's 527 classes (AudioSet's own order) of each class whose scores the corpus keeps."""


class PretrainedError(ValueError):
    """A file of weights cannot be used to begin with."""


def begin_with(network: Network, path: Path, teacher_labels: Sequence[str] = ()) -> int:
    """Load the tagger's weights into `network` wherever name and shape agree; the number of tensors loaded.

    A network of fewer blocks takes the blocks it has. Where the embedding is the tagger's own, the labels' scores begin as
    those of `MEANS`, and the teacher head (`teacher_labels`: "tagger/class name") as the classes that it learns.

    Raises:
        PretrainedError: the file is missing, is not such weights, or fits in no part.
    """
    if not path.is_file():
        msg = f"{path}: no such weights; get them with the corpus, or train from random weights with --begin-with none"
        raise PretrainedError(msg)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        weight, bias = held["classifier.5.weight"], held["classifier.5.bias"]
    except (KeyError, RuntimeError, TypeError, ValueError, EOFError, OSError) as error:
        msg = f"{path}: not the weights of mn04_as ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'})"
        raise PretrainedError(msg) from error
    except Exception as error:  # pickle's own error type, which torch wraps in no other
        msg = f"{path}: not a file of weights ({type(error).__name__})"
        raise PretrainedError(msg) from error
    named = {_renamed(name): tensor for name, tensor in held.items()}
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in named.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        msg = f"{path}: none of its weights fits the network"
        raise PretrainedError(msg)
    network.load_state_dict(fitting, strict=False)
    if "embed.weight" in fitting and weight.shape[0] == CLASSES:
        _begin_heads(network, weight, bias, teacher_labels)
    return len(fitting)


def _renamed(name: str) -> str:
    """The tagger's name for a weight as ours."""
    return name.replace(".conc_se_layers.0.", ".").replace("classifier.2.", "embed.")


@torch.no_grad()
def _begin_heads(network: Network, weight: Tensor, bias: Tensor, teacher_labels: Sequence[str]) -> None:
    own = slice(weight.shape[1])  # what reads the units beside the embedding begins at zero
    network.head.weight.zero_()
    network.head.bias.zero_()
    for label, names in MEANS.items():
        rows = [ROWS[name] for name in names]
        network.head.weight[LABELS.index(label), own] = weight[rows].mean(0)
        network.head.bias[LABELS.index(label)] = bias[rows].mean()
    if network.teacher_head is None:
        return
    for position, name in enumerate(teacher_labels):
        row = ROWS.get(name.partition("/")[2])
        if row is not None:
            network.teacher_head.weight[position] = 0
            network.teacher_head.weight[position, own] = weight[row]
            network.teacher_head.bias[position] = bias[row]


def drawn_back(network: Network, began: Mapping[str, Tensor], keep: float) -> Network:
    """A copy of the network in which `keep` of every weight is what it was in the beginning."""
    settled = copy.deepcopy(network)
    trained = settled.state_dict()
    floating = {name: value for name, value in trained.items() if value.is_floating_point()}
    mixed = {name: torch.lerp(value, began[name].to(value.device), keep) for name, value in floating.items()}
    settled.load_state_dict({**trained, **mixed})
    return settled


@dataclass(frozen=True, slots=True)
class Blend:
    """How the network that is measured and shipped comes from the trained one.

    `keep` of every weight is what it was in the beginning (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022): what AudioSet
    taught of rooms and voices that the corpus lacks is kept. `teacher_share` of a sensitive label's logit is the mean of what the teacher
    head says of the same sounds, less `animals` of what it says of animals, which cry and scream too; the rest is our labels', but for
    those of `taggers_alone`: clips that all come from one source teach its recorder.
    """

    keep: float
    teacher_share: float
    taggers_alone: tuple[str, ...] = ()
    animals: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.keep, self.teacher_share, self.animals)):
            msg = f"keep, teacher_share and animals are shares in [0, 1], got {self.keep}, {self.teacher_share} and {self.animals}"
            raise ValueError(msg)
        if unknown := sorted(set(self.taggers_alone) - set(SENSITIVE)):
            msg = f"taggers_alone names sensitive labels ({', '.join(SENSITIVE)}), got {', '.join(unknown)}"
            raise ValueError(msg)


def blended(network: Network, began: Mapping[str, Tensor] | None, teacher_labels: Sequence[str], blend: Blend) -> Network:
    """The network that is measured and shipped: a trained one drawn back towards where it began, without its teacher head.

    Both heads are linear in one embedding, so their sum costs nothing.
    """
    settled = copy.deepcopy(network) if began is None else drawn_back(network, began, blend.keep)
    if settled.teacher_head is not None:
        names = [name.partition("/")[2] for name in teacher_labels]
        animals = [position for position, name in enumerate(names) if name == ANIMAL]
        with torch.no_grad():
            for label in SENSITIVE:
                rows = [position for position, name in enumerate(names) if name in MEANS[label]]
                if not rows:
                    continue
                index, labels = LABELS.index(label), 0.0 if label in blend.taggers_alone else 1 - blend.teacher_share
                for own, teachers in ((settled.head.weight, settled.teacher_head.weight), (settled.head.bias, settled.teacher_head.bias)):
                    taught = teachers[rows].mean(0)
                    if animals:
                        taught = taught - blend.animals * teachers[animals].mean(0)
                    own[index] = labels * own[index] + blend.teacher_share * taught
        settled.teacher_head = None
    return settled
