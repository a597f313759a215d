"""What operators and services can set: command line, then environment, then file, then default.

``fields``        what can be set: meaning, unit, default, and how values relate
``claims``        where bodies are kept that are larger than a record
``security``      how the broker is spoken to, and as whom
``sources``       where values come from: merged, checked, each remembered with its origin
``secret_files``  reading what nobody else may read
"""

from ondemand.settings.fields import (
    HIDDEN,
    RELATIONS,
    ClientSettings,
    Settings,
    WorkerSettings,
    shown_options,
)
from ondemand.settings.security import Security
from ondemand.settings.sources import (
    SETTINGS_FILE,
    Loaded,
    Origin,
    environment_variable,
    load,
)

__all__ = [
    "HIDDEN",
    "RELATIONS",
    "SETTINGS_FILE",
    "ClientSettings",
    "Loaded",
    "Origin",
    "Security",
    "Settings",
    "WorkerSettings",
    "environment_variable",
    "load",
    "shown_options",
]
