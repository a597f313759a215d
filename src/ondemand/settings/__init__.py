"""What operators and services can set: command line, then environment, then file, then default.

``fields``   what can be set: meaning, unit, default, and how values relate
``sources``  where values come from: merged, checked, each remembered with its origin
"""

from ondemand.settings.fields import (
    RELATIONS,
    ClientSettings,
    Settings,
    WorkerSettings,
    shown_options,
)
from ondemand.settings.sources import (
    SETTINGS_FILE,
    Loaded,
    Origin,
    environment_variable,
    load,
)

__all__ = [
    "RELATIONS",
    "SETTINGS_FILE",
    "ClientSettings",
    "Loaded",
    "Origin",
    "Settings",
    "WorkerSettings",
    "environment_variable",
    "load",
    "shown_options",
]
