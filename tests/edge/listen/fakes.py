"""Sources whose faults a test writes down."""

import threading
import time

import numpy as np

from earmark_edge.listen.source import SourceEndedError, SourceError


class ScriptedSource:
    """Plays `script`: arrays are read as they are, None is a stall, an exception is raised; `fails_to_open` openings fail first."""

    def __init__(self, script, *, is_live=True, name="fake", fails_to_open=0):
        self.name, self.is_live = name, is_live
        self.script, self.fails_to_open = list(script), fails_to_open
        self.opened = self.closed = 0
        self.is_open = False

    def open(self):
        self.opened += 1
        if self.fails_to_open:
            self.fails_to_open -= 1
            msg = f"{self.name}: not there"
            raise SourceError(msg)
        self.is_open = True

    def read(self, timeout_s):
        assert self.is_open
        if not self.script:
            raise SourceEndedError(self.name)
        step = self.script.pop(0)
        if step is None:
            time.sleep(0.01)
            return None
        if isinstance(step, Exception):
            raise step
        return np.asarray(step, np.float32)

    def close(self):
        self.closed += self.is_open
        self.is_open = False


class Collected:
    """A report and a sink that keep what they are given."""

    def __init__(self):
        self.events, self.canaries, self.sources, self.mutes, self.lines, self.taken = [], [], [], [], [], []
        self.has_event = threading.Event()
        self.probability, self.draws = 0.0, []

    def event(self, name, flagged, at, delivery):
        self.events.append((name, flagged, at, delivery))
        self.has_event.set()

    def canary(self, name, result, at):
        self.canaries.append((name, result))

    def source(self, name, notice, at):
        self.sources.append((name, notice))

    def mute(self, reasons, at):
        self.mutes.append(reasons)

    def tell(self, line):
        self.lines.append(line)

    def take(self, flagged):
        self.taken.append(flagged)
        return "taken"

    def start(self, beats):
        self.beats = beats

    def use(self, rules):
        self.rules = rules

    def slice_probability(self):
        return self.probability

    def draw(self):
        """Every second time."""
        self.draws.append(len(self.draws))
        return self.probability if len(self.draws) % 2 else None

    def counts(self):
        return {"taken": len(self.taken)}

    def close(self):
        """Nothing."""
