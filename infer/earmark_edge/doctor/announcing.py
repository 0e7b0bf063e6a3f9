"""Checks of the household's own systems that are told of events: can they be reached, and do they let this device in?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from earmark_edge.announce.destination import DestinationDownError
from earmark_edge.announce.mqtt import Mqtt
from earmark_edge.announce.settings import AnnounceSettings, MqttSettings, WebhookSettings
from earmark_edge.announce.webhook import Webhook
from earmark_edge.doctor.check import Check, fail, ok, warn
from earmark_edge.oneline import one_line
from earmark_edge.settings import SettingsError

_PATIENCE_S = 10.0
_REDIRECTS, _FAILURES = range(300, 400), range(500, 600)
_REFUSALS = (401, 403, 404, 410)


def check_announcing(environ: Mapping[str, str]) -> Iterator[Check]:
    """Nothing where nothing is set. No event is told, and the broker is asked under another client's name than the listener's."""
    try:
        settings = AnnounceSettings.from_environment(environ)
    except SettingsError as error:
        yield fail("announcing", one_line(error), "set right what it says, or unset it")
        return
    if settings.mqtt:
        yield _mqtt(settings.mqtt)
    if settings.webhook:
        yield _webhook(settings.webhook)


def _mqtt(settings: MqttSettings) -> Check:
    probe = Mqtt(settings, (), "")
    try:
        is_in = probe.try_to_connect(_PATIENCE_S, time.monotonic)
    except DestinationDownError as error:
        return fail("mqtt", one_line(error), "see the settings of MQTT in docs/device.md")
    if is_in:
        return ok("mqtt", f"{settings.address} lets this device in as {settings.name!r}")
    advice = (
        "check user and password" if probe.refusal else "check address, certificate and network; events are told within a day, or never"
    )
    return fail("mqtt", f"{settings.address}: {probe.refusal or 'no connection'}", advice)


def _webhook(settings: WebhookSettings) -> Check:
    probe = Webhook(settings)
    try:
        probe.open()
        status = probe.probe()
    except DestinationDownError as error:
        return fail("webhook", one_line(error), "check address, certificate and network; events are told within a day, or never")
    finally:
        probe.close()
    if status in _REDIRECTS:
        return fail("webhook", f"{settings.address} answers {status}: a redirect", "set the address that it leads to; none is followed")
    if status in _FAILURES or status in _REFUSALS:
        return warn("webhook", f"{settings.address} answers {status} to a HEAD", "check the address, unless it takes nothing but POST")
    return ok("webhook", f"{settings.address} answers")
