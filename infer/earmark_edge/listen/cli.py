"""`earmark edge listen`: reads the command line, and becomes the process that listens.

The command line's libraries (typer, rich, pydantic) take a sixth of the memory and are of no use from then on, for years. So the process
is replaced by one that never loads them; its number, its descriptors and its environment stay.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from earmark_edge.listen.run import Request


def listen(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]INPUT...",
            help="mic, mic:DEVICE, a sound file, - (PCM on standard input), an address such as rtsp://camera/stream, alsa:DEVICE, "
            "pulse:DEVICE. Several are heard at once. Default: mic.",
        ),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder, or the name of one that ships (earmark); EARMARK_BUNDLE.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Deliver flagged events, sealed, to the review service of `enrol`.")] = False,
    rate: Annotated[int | None, typer.Option(metavar="HZ", help="Sample rate of PCM on standard input.")] = None,
    channels: Annotated[int, typer.Option(help="Channels of PCM on standard input, interleaved.")] = 1,
    encoding: Annotated[str, typer.Option(help="Of PCM on standard input: s16le, s32le or f32le.")] = "s16le",
    fast: Annotated[bool, typer.Option("--fast", help="Read files as fast as they can be scored, not at their own pace.")] = False,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="Key, consent, outbox, status and mute file; EARMARK_STATE.")] = None,
) -> None:
    """Listen without end: flag screams and cries as they happen, keep nothing else.

    An input that stalls, breaks or falls silent is opened again. Ctrl-C or SIGTERM end in order. Mute: SIGUSR1 (SIGUSR2 ends it), a file
    called "mute" in the state folder, or a switch (EARMARK_MUTE_GPIO); what is in memory is wiped. Every EARMARK_CANARY_S seconds (3600)
    a synthetic scream is injected and must be heard. EARMARK_METRICS_PORT serves counts to Prometheus on this machine alone.
    Other settings: docs/device.md. Exit status: 0 ended in order, 1 an input or the bundle failed for good, 2 misused.

    Examples: `earmark edge listen` for the microphone; `earmark edge listen hall=rtsp://camera/audio bed=mic:USB --send` for two inputs
    whose events are delivered; `arecord -f S16_LE -r 16000 | earmark edge listen - --rate 16000 --json` for PCM.
    """
    request = Request(
        inputs=tuple(inputs or ()),
        bundle=bundle,
        json_lines=json_lines,
        send=send,
        rate=rate,
        channels=channels,
        encoding=encoding,
        fast=fast,
        state=state,
        log_level=logging.getLogger().level,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "earmark_edge.listen", request.to_argument()])  # noqa: S606 - no shell is wanted
