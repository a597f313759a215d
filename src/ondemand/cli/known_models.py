"""Which models a broker has topics for, to help whoever named one that is not there."""

from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from typing import Final

from ondemand.contract.topics import REQUESTS, request_topic
from ondemand.errors import OndemandError
from ondemand.settings import ClientSettings

SHOWN_MAX: Final = 5
PATIENCE_SECONDS: Final = 3.0


def did_you_mean(model: str, settings: ClientSettings) -> str:
    """The nearest model, or those there are, as the end of a sentence; empty where *model* is there
    or nothing is known. Asks the broker, and never raises for what it does not get."""
    try:
        from ondemand.transport.kafka_admin import KafkaAdmin
    except ModuleNotFoundError:  # only the extra `worker` brings it: then without a hint
        return ""
    try:
        admin = KafkaAdmin(
            kafka=settings.kafka,
            options=settings.kafka_options,
            connect_timeout_seconds=PATIENCE_SECONDS,
            security=settings,
        )
        topics = frozenset(admin.describe())
    except OndemandError:
        return ""
    return hint(model, topics)


def hint(model: str, topics: AbstractSet[str]) -> str:
    """The end of the sentence, from the names of the topics that are there."""
    ending = f".{REQUESTS}"
    if request_topic(model) in topics:
        return ""
    models = sorted(name.removesuffix(ending) for name in topics if name.endswith(ending))
    near = get_close_matches(model, models, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if not models:
        return ""
    more = ", …" if len(models) > SHOWN_MAX else ""
    return f"; served here: {', '.join(models[:SHOWN_MAX])}{more}"
