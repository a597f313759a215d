"""What workers have announced on a broker, read once."""

import time
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from ondemand.cli.recipe import KnownInput
from ondemand.client.directory import AliveWorker
from ondemand.client.presence import Presence
from ondemand.contract.announcement import AnnouncedTensor
from ondemand.contract.topics import request_topic
from ondemand.runtime.manifest import ImageSpec
from ondemand.settings import ClientSettings
from ondemand.transport.kafka_client import KafkaClientTransport

READ_SECONDS: Final = 5.0


async def alive_workers(settings: ClientSettings) -> Sequence[AliveWorker] | None:
    """The workers that count as alive; None where the broker has no announcements, or not for this
    login. Raises ``TransportError`` where no broker answers."""
    transport = KafkaClientTransport(
        kafka=settings.kafka,
        options=settings.kafka_options,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        client_id="ondemand-workers",
        security=settings,
    )
    presence = Presence(transport, clock=time.time, load_seconds=READ_SECONDS)
    try:
        await transport.start()
        presence.start()
        await presence.loaded(READ_SECONDS)
        return presence.directory.alive() if presence.known else None
    finally:
        await presence.stop(READ_SECONDS)
        await transport.stop()
        await presence.abandon()


async def announced_inputs(model: str, settings: ClientSettings) -> tuple[KnownInput, ...]:
    """What *model* takes, as the youngest of its workers says; nothing where none has spoken."""
    topic = request_topic(model)
    workers = await alive_workers(settings) or ()
    told = [each.announcement for each in workers if each.announcement.topic == topic]
    if not told:
        return ()
    inputs = max(told, key=lambda each: each.since_ms).inputs
    return tuple(_known(tensor) for tensor in inputs if tensor.name.isprintable())


def _known(tensor: AnnouncedTensor) -> KnownInput:
    return KnownInput(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=tensor.shape,
        image=_image(tensor),
        excerpt_bytes=tensor.excerpt_bytes,
    )


def _image(tensor: AnnouncedTensor) -> ImageSpec | None:
    """How a picture becomes the tensor; None where that is not said, or not in words we know."""
    if tensor.picture is None:
        return None
    try:
        return ImageSpec.model_validate(tensor.picture._asdict())
    except ValidationError:
        return None
