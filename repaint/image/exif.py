"""An EXIF block changed where it stands: maker's notes hold offsets into it and do not survive rewriting."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from fractions import Fraction
from typing import Any

from PIL.ExifTags import IFD, Base

EXIF_HEAD = b"Exif\0\0"
SHORT, LONG, RATIONAL = 3, 4, 5
UNPARSABLE = (struct.error, LookupError, ArithmeticError, ValueError)
CM_PER_INCH = 2.54


def fitted_exif(exif: bytes, *, width: int, height: int, dpi: tuple[float, float] | None) -> bytes:
    """The block of a photo of this size and resolution, without the thumbnail of what it looked like before.

    Only what the block tells already is told anew, and only where it is wrong; all else stays byte for byte.
    A block that cannot be parsed stays as it is, whole.
    """
    try:
        block = _Block(exif.removeprefix(EXIF_HEAD))
        block.drop_thumbnail()
        block.tell_size(width, height)
        if dpi is not None:
            block.tell_dpi(dpi)
    except UNPARSABLE:
        return exif
    return EXIF_HEAD + bytes(block.data)


def upright_block(exif: bytes, *, swapped: bool) -> bytes | None:
    """The block of a photo that has been turned upright; all but orientation and resolutions stays byte for byte.

    Args:
        swapped: whether rows have become columns; so have the resolutions.

    Returns:
        None if the block cannot be parsed.
    """
    try:
        block = _Block(exif.removeprefix(EXIF_HEAD))
        block.tell_upright(swapped=swapped)
    except UNPARSABLE:
        return None
    return EXIF_HEAD + bytes(block.data)


class _Block:
    """What follows the head: a TIFF file without pixels. A place is where the twelve bytes of an entry begin."""

    def __init__(self, raw: bytes) -> None:
        self.data = bytearray(raw)
        self.order = {b"II": "<", b"MM": ">"}[raw[:2]]
        (self.first,) = self._get("L", 4)

    def drop_thumbnail(self) -> None:
        """Leave out the second directory and, if it is a JPEG file, the picture it points to."""
        (entries,) = self._get("H", self.first)
        (second,) = self._get("L", self.first + 2 + 12 * entries)
        if not second:
            return
        self._put("L", self.first + 2 + 12 * entries, 0)
        with suppress(struct.error, KeyError):  # it points nowhere
            places = self._directory(second)
            (start,) = self._get("L", places[Base.JpegIFOffset] + 8)
            (size,) = self._get("L", places[Base.JpegIFByteCount] + 8)
            if self.data[start : start + 2] != b"\xff\xd8":
                return
            if start + size < len(self.data):
                self.data[start : start + size] = bytes(size)
            else:
                del self.data[start:]

    def tell_upright(self, *, swapped: bool) -> None:
        places = self._directory(self.first)
        self._put_whole(places[Base.Orientation], 1)
        across, down = places.get(Base.XResolution), places.get(Base.YResolution)
        if swapped and across is not None and down is not None:
            first, second = (self.data[place + 2 : place + 12] for place in (across, down))
            self.data[across + 2 : across + 12], self.data[down + 2 : down + 12] = second, first

    def tell_dpi(self, dpi: tuple[float, float]) -> None:
        places = self._directory(self.first)
        told = zip((Base.XResolution, Base.YResolution), dpi, strict=True)
        wanted = {places[tag]: value for tag, value in told if tag in places}
        unit = self._whole(places[Base.ResolutionUnit]) if Base.ResolutionUnit in places else 2
        inch = 1.0 if unit == 2 else CM_PER_INCH if unit == 3 else math.nan
        # JPEG's own resolution is whole dots: half a dot off is the same.
        if all(abs(self._ratio(place) * inch - value) <= 0.5 for place, value in wanted.items()):
            return
        for place, value in wanted.items():
            self._put_ratio(place, value)
        if Base.ResolutionUnit in places:
            self._put_whole(places[Base.ResolutionUnit], 2)

    def tell_size(self, width: int, height: int) -> None:
        first = self._directory(self.first)
        sizes = {first.get(Base.ImageWidth): width, first.get(Base.ImageLength): height}
        if IFD.Exif in first:
            second = self._directory(*self._get("L", first[IFD.Exif] + 8))
            sizes |= {second.get(Base.ExifImageWidth): width, second.get(Base.ExifImageHeight): height}
        for place, size in sizes.items():
            if place is not None and self._whole(place) != size:
                self._put_whole(place, size)

    def _directory(self, at: int) -> dict[int, int]:
        """Places by tag."""
        (entries,) = self._get("H", at)
        return {self._get("H", place)[0]: place for place in range(at + 2, at + 2 + 12 * entries, 12)}

    def _whole(self, place: int) -> int | None:
        (kind,) = self._get("H", place + 2)
        return self._get({SHORT: "H", LONG: "L"}[kind], place + 8)[0] if kind in (SHORT, LONG) else None

    def _put_whole(self, place: int, value: int) -> None:
        short = self._get("H", place + 2) == (SHORT,) and value <= 0xFFFF
        self._put("HLHxx" if short else "HLL", place + 2, SHORT if short else LONG, 1, value)

    def _ratio(self, place: int) -> float:
        kind, _, at = self._get("HLL", place + 2)
        above, below = self._get("LL", at) if kind == RATIONAL else (0, 0)
        return above / below if below else math.nan

    def _put_ratio(self, place: int, value: float) -> None:
        """Its old place may hold another entry's value too: the new one goes to the end."""
        ratio = Fraction(value).limit_denominator(1000)
        self.data += bytes(len(self.data) % 2)
        self._put("HLL", place + 2, RATIONAL, 1, len(self.data))
        self.data += struct.pack(self.order + "LL", ratio.numerator, ratio.denominator)

    def _get(self, layout: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + layout, self.data, at)

    def _put(self, layout: str, at: int, *values: int) -> None:
        struct.pack_into(self.order + layout, self.data, at, *values)
