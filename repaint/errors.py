"""What goes wrong, as a tree: catch `RepaintError` for all of it, a leaf for one thing.

Every message is one line that says where, what was found and what would be right.
"""

from __future__ import annotations


class RepaintError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(RepaintError):
    """A config file, an override or an option says something that cannot be meant."""


class ImageError(RepaintError):
    """A photo or a mask cannot be read or written, or does not fit its partner."""


class WeightsError(RepaintError):
    """Weights are missing, damaged, refused, or of another architecture."""


class RunError(RepaintError):
    """A run cannot start or cannot go on: folders, pairing, disk, another run in the same place."""


class RunStopped(RunError):
    """A run had to stop in the middle; what is done is kept, and the same command goes on."""
