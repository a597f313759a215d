"""Models on demand over Kafka: publish a prediction request, await the reply.

Importing this package costs nothing: the client, and with it a Kafka client, is imported when it is
first asked for, and a requesting service never imports a model runtime.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ondemand.client import Prediction, PredictionClient, SyncPredictionClient

__version__ = "0.1.0"

__all__ = ["Prediction", "PredictionClient", "SyncPredictionClient", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the client at its first use (PEP 562)."""
    if name in __all__:
        from ondemand import client  # noqa: PLC0415 - the point of this function

        return getattr(client, name)
    raise AttributeError(f"module 'ondemand' has no attribute {name!r}")
