"""Photos and masks, in and out of files.

    photo = read_photo("in.jpg")
    mask = read_mask("mask.png")
    write_photo("out.png", replace(photo, rgb=filled))

What a file says beside its pixels (ICC profile, EXIF, dpi, bits, grey) travels in `Photo.meta`.
"""

from repaint.image.fitting import centre_cropped, centre_cropped_mask
from repaint.image.masks import check_mask_fits, decode_mask, encode_mask, read_mask, write_mask
from repaint.image.photo import DEFAULT_MAX_PIXELS, ENDINGS, FORMATS, READABLE, MaskImage, Meta, Photo, luma, of_frames
from repaint.image.reading import decode_photo, read_photo
from repaint.image.unread import unread_in
from repaint.image.writing import check_size, encode_photo, write_photo

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "ENDINGS",
    "FORMATS",
    "READABLE",
    "MaskImage",
    "Meta",
    "Photo",
    "centre_cropped",
    "centre_cropped_mask",
    "check_mask_fits",
    "check_size",
    "decode_mask",
    "decode_photo",
    "encode_mask",
    "encode_photo",
    "luma",
    "of_frames",
    "read_mask",
    "read_photo",
    "unread_in",
    "write_mask",
    "write_photo",
]
