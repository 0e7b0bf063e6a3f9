"""Tells an MQTT broker, in the way in which Home Assistant finds new devices by itself.

    earmark/NAME/availability   online or offline (the broker's own word if the device dies), retained
    earmark/NAME/status         {"canary": "passed", "events": 3, "muted": "OFF"}, retained
    earmark/NAME/event          an `Announcement`, with `event_type`; not retained, quality of service 1

Discovery: <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from earmark_edge.announce.announcement import Announcement, Pulse
from earmark_edge.announce.destination import DestinationDownError
from earmark_edge.announce.settings import MqttSettings
from earmark_edge.oneline import one_line

ONLINE, OFFLINE = "online", "offline"
LONGEST_WAIT_S = 120
_KEEPALIVE_S = 30


def topic(settings: MqttSettings, leaf: str) -> str:
    """A topic of this device."""
    return f"earmark/{settings.name}/{leaf}"


def discovery(settings: MqttSettings, labels: tuple[str, ...], version: str) -> Mapping[str, Mapping[str, Any]]:
    """Topic and content of what makes Home Assistant show this device: an event, a count, whether it is muted, whether it can hear."""
    device = {"identifiers": [f"earmark_{settings.name}"], "name": settings.name, "manufacturer": "Earmark", "sw_version": version}
    shared = {"availability_topic": topic(settings, "availability"), "device": device, "qos": 1}
    status = {"state_topic": topic(settings, "status"), **shared}
    found: dict[str, dict[str, Any]] = {
        "event/flagged": {
            "name": "Flagged sound",
            "state_topic": topic(settings, "event"),
            "event_types": list(labels),
            "icon": "mdi:ear-hearing",
            **shared,
        },
        "sensor/events": {
            "name": "Flagged events",
            "value_template": "{{ value_json.events | default(none) }}",
            "state_class": "total_increasing",
            **status,
        },
        "binary_sensor/muted": {"name": "Muted", "value_template": "{{ value_json.muted }}", **status},
        "binary_sensor/deaf": {
            "name": "Hearing",
            "device_class": "problem",
            "value_template": "{{ 'ON' if value_json.canary == 'missed' else 'OFF' }}",
            **status,
        },
    }
    made = {}
    for place, words in found.items():
        kind, _, leaf = place.partition("/")
        made[f"{settings.prefix}/{kind}/earmark_{settings.name}/{leaf}/config"] = {"unique_id": f"earmark_{settings.name}_{leaf}", **words}
    return made


class Mqtt:
    """A `Destination`. A thread of the client's own keeps the connection, and comes back with doubling waits of up to two minutes."""

    name = "mqtt"

    def __init__(self, settings: MqttSettings, labels: tuple[str, ...], version: str, *, timeout_s: float = 10.0) -> None:
        self.address, self._settings, self._labels, self._version = settings.address, settings, labels, version
        self._timeout_s = timeout_s
        self._client: Any = None
        self.refusal = ""
        """Why the broker did not let us in last, or ""."""

    def open(self) -> None:
        """See `Destination.open`."""
        self._client = client = self._made(f"earmark-{self._settings.name}")
        client.will_set(topic(self._settings, "availability"), OFFLINE, qos=1, retain=True)
        client.on_connect = self._connected
        client.loop_start()

    def try_to_connect(self, patience_s: float, clock: Callable[[], float]) -> bool:
        """Whether the broker lets this device in; says nothing there, and leaves a running listener's connection alone.

        Raises:
            DestinationDownError: see `open`.
        """
        client = self._made(f"earmark-{self._settings.name}-doctor")
        client.on_connect = self._told
        client.loop_start()
        until_s = clock() + patience_s
        while not (client.is_connected() or self.refusal) and clock() < until_s:
            time.sleep(0.05)
        is_in = bool(client.is_connected()) and not self.refusal
        client.disconnect()
        client.loop_stop()
        return is_in

    def _made(self, client_id: str) -> Any:
        """A client that connects once its loop runs."""
        try:
            from paho.mqtt import client as paho  # noqa: PLC0415 - a device without a broker does without
            from paho.mqtt import enums  # noqa: PLC0415 - the same
        except ImportError as error:
            msg = f"MQTT needs paho-mqtt, which is not installed ({error}); get it with: pip install 'earmark[mqtt]'"
            raise DestinationDownError(msg) from error
        settings = self._settings
        client = paho.Client(enums.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv311)
        if settings.user is not None:
            client.username_pw_set(settings.user, settings.password)
        if settings.is_tls:
            import ssl  # noqa: PLC0415 - megabytes that a device without a broker does without

            try:
                client.tls_set_context(ssl.create_default_context(cafile=settings.ca))
            except OSError as error:
                msg = f"{settings.ca}: no certificate of an authority ({error})"
                raise DestinationDownError(msg) from error
        client.reconnect_delay_set(1, LONGEST_WAIT_S)
        client.max_queued_messages_set(100)  # what waits for longer waits in our own file
        client.connect_timeout = self._timeout_s
        client.connect_async(settings.host, settings.port, keepalive=_KEEPALIVE_S)
        return client

    def send(self, announcement: Announcement) -> None:
        """See `Destination.send`."""
        self._publish("event", json.dumps({"event_type": announcement.label, **announcement.as_json()}), retain=False)

    def pulse(self, pulse: Pulse) -> None:
        """See `Destination.pulse`."""
        events = {} if pulse.events is None else {"events": pulse.events}
        self._publish("status", json.dumps({**events, "muted": "ON" if pulse.is_muted else "OFF", "canary": pulse.canary}), retain=True)

    @property
    def is_connected(self) -> bool:
        """Whether the broker let us in."""
        return self._client is not None and bool(self._client.is_connected())

    def close(self) -> None:
        """Say goodbye, so that availability does not wait for the last will."""
        if self._client is None:
            return
        if self.is_connected:
            self._client.publish(topic(self._settings, "availability"), OFFLINE, qos=1, retain=True).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        """In the client's thread, at every connection: the broker may have forgotten what it was told."""
        self._told(client, _data, _flags, reason, _properties)
        if reason.is_failure:
            return
        for where, words in discovery(self._settings, self._labels, self._version).items():
            client.publish(where, json.dumps(words), qos=1, retain=True)
        client.publish(topic(self._settings, "availability"), ONLINE, qos=1, retain=True)

    def _told(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.refusal = one_line(reason) if reason.is_failure else ""

    def _publish(self, leaf: str, content: str, *, retain: bool) -> None:
        if not self.is_connected:
            msg = f"{self.address}: not connected" + (f" ({self.refusal})" if self.refusal else "")
            raise DestinationDownError(msg)
        try:
            sent = self._client.publish(topic(self._settings, leaf), content, qos=1, retain=retain)
            sent.wait_for_publish(self._timeout_s)
            is_taken = sent.is_published()
        except (RuntimeError, ValueError) as error:
            msg = f"{self.address}: {one_line(error)}"
            raise DestinationDownError(msg) from error
        if not is_taken:
            msg = f"{self.address}: the broker did not confirm within {self._timeout_s:g} s"
            raise DestinationDownError(msg)
