"""Pictures of kinds that are not read: whoever has them should hear of it."""

from __future__ import annotations

from pathlib import Path

from repaint.files import in_short, list_files

UNREAD = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".pdf")


def unread_in(folder: str | Path) -> str | None:
    """What to say of such files in a folder and its subfolders; None if there are none.

    Raises:
        OSError: as `list_files`.
    """
    names = list_files(folder, UNREAD)
    return f"{in_short(names)} of {folder}: not read; convert to JPEG, PNG or TIFF" if names else None
