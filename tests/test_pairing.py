"""Every image finds its mask, or the run says before any work which does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repaint.errors import RunError
from repaint.jobs import Item, RunConfig, paired


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pairs(folder: Path, **changed: Any) -> tuple[list[Item], list[str]]:
    said = {"images": str(folder / "images"), "masks": str(folder / "masks"), "output": str(folder / "out"), **changed}
    return paired(RunConfig.model_validate({**said, "stages": [{"inpaint": {}}]}))


def found(folder: Path, **changed: Any) -> list[tuple[str, str]]:
    """Image and mask of every item, from their folders on."""
    items, _ = pairs(folder, **changed)
    return [(item.name, str(Path(item.mask or "").relative_to(folder))) for item in items]


def refusal(folder: Path, **changed: Any) -> str:
    with pytest.raises(RunError) as error:
        pairs(folder, **changed)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(folder), "DIR")


def test_an_image_and_its_mask_share_folder_and_stem_but_not_the_ending(tmp_path):
    touch(tmp_path / "images", "a.JPG", "b.tiff", "deep/er/a.webp", "c.d.png")
    touch(tmp_path / "masks", "a.png", "b.PNG", "deep/er/a.bmp", "c.d.gif")
    assert found(tmp_path) == [
        ("a.JPG", "masks/a.png"),
        ("b.tiff", "masks/b.PNG"),
        ("c.d.png", "masks/c.d.gif"),
        ("deep/er/a.webp", "masks/deep/er/a.bmp"),
    ]


def test_one_mask_file_serves_all_images(tmp_path):
    touch(tmp_path / "images", "a.png", "deep/b.png")
    touch(tmp_path, "hole.png")
    assert found(tmp_path, masks=str(tmp_path / "hole.png")) == [("a.png", "hole.png"), ("deep/b.png", "hole.png")]


def test_one_image_file_is_a_run_of_one(tmp_path):
    touch(tmp_path / "images", "a.png", "b.png")
    touch(tmp_path / "masks", "b.png")
    items, _ = pairs(tmp_path, images=str(tmp_path / "images" / "b.png"))
    assert [(item.name, item.image) for item in items] == [("b.png", f"{tmp_path}/images/b.png")]


def test_relative_paths_are_read_from_where_one_stands(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "b.png")
    monkeypatch.chdir(tmp_path)
    items, _ = pairs(tmp_path, images="a.png", masks="b.png")
    assert (items[0].image, items[0].mask) == ("a.png", "b.png")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "0.png of DIR/images has no mask of the same name in DIR/masks"),
        (3, "0.png, 1.png, 2.png of DIR/images have no mask of the same name in DIR/masks"),
        (5, "0.png, 1.png, 2.png and 2 more of DIR/images have no mask of the same name in DIR/masks"),
    ],
)
def test_images_without_a_mask_are_named_up_to_three_and_counted(tmp_path, count, words):
    touch(tmp_path / "images", "paired.png", *(f"{i}.png" for i in range(count)))
    touch(tmp_path / "masks", "paired.png")
    assert refusal(tmp_path) == words


def test_images_without_a_mask_are_remarked_upon_where_damage_is_found(tmp_path):
    touch(tmp_path / "images", "a.png", "b.png")
    touch(tmp_path / "masks", "b.png", "c.png")
    found = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks"), "output": str(tmp_path / "out")}
    config = RunConfig.model_validate({**found, "stages": [{"scratches": {}}, {"inpaint": {}}]})
    items, remarks = paired(config)
    assert [item.mask and Path(item.mask).name for item in items] == [None, "b.png"]
    assert [remark.replace(str(tmp_path), "DIR") for remark in remarks] == [
        "a.png of DIR/images has no mask of the same name in DIR/masks: there the damage that is found is filled, "
        "and no more",
        "c.png of DIR/masks has no image and is not used",
    ]
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(RunError, match="have no mask of the same name"):
        paired(config)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "0.png of DIR/masks has no image and is not used"),
        (4, "0.png, 1.png, 2.png and 1 more of DIR/masks have no image and are not used"),
    ],
)
def test_spare_masks_are_a_remark(tmp_path, count, words):
    touch(tmp_path / "images", "paired.png")
    touch(tmp_path / "masks", "paired.png", *(f"{i}.png" for i in range(count)))
    items, remarks = pairs(tmp_path)
    assert [item.name for item in items] == ["paired.png"]
    assert [remark.replace(str(tmp_path), "DIR") for remark in remarks] == [words]


def test_two_images_of_one_stem_are_refused(tmp_path):
    touch(tmp_path / "images", "a.jpg", "a.png")
    touch(tmp_path / "masks", "a.png")
    assert refusal(tmp_path) == "a.jpg and a.png would both write a; rename one"


def test_two_masks_of_one_stem_are_refused(tmp_path):
    touch(tmp_path / "images", "d/a.jpg")
    touch(tmp_path / "masks", "d/a.bmp", "d/a.png")
    assert refusal(tmp_path) == "DIR/masks: d/a.bmp and d/a.png are both masks of d/a; keep one"


def test_by_order_the_first_image_has_the_first_mask(tmp_path):
    touch(tmp_path / "images", "b.png", "a.png")
    touch(tmp_path / "masks", "z.png", "y.png")
    assert found(tmp_path, pair="order") == [("a.png", "masks/y.png"), ("b.png", "masks/z.png")]


@pytest.mark.parametrize("masks", [1, 3])
def test_by_order_there_must_be_as_many_masks_as_images(tmp_path, masks):
    touch(tmp_path / "images", "a.png", "b.png")
    touch(tmp_path / "masks", *(f"{i}.png" for i in range(masks)))
    assert refusal(tmp_path, pair="order") == (
        f"pair: order needs as many masks as images: DIR/images has 2, DIR/masks has {masks}"
    )


@pytest.mark.parametrize("key", ["images", "masks"])
def test_a_missing_folder_is_refused_by_its_key(tmp_path, key):
    touch(tmp_path / ("masks" if key == "images" else "images"), "a.png")
    assert refusal(tmp_path) == f"{key}: DIR/{key} does not exist"


@pytest.mark.parametrize("key", ["images", "masks"])
def test_a_folder_without_pictures_is_refused_with_the_endings_that_would_be_right(tmp_path, key):
    touch(tmp_path / ("masks" if key == "images" else "images"), "a.png")
    touch(tmp_path / key, "notes.txt", ".hidden.png", ".cache/a.png")
    assert refusal(tmp_path).startswith(f"{key}: DIR/{key} holds no images (.png, .jpg, ")


def test_the_list_goes_folder_by_folder_as_a_walk_does(tmp_path):
    names = ["a/2.png", "a/b/1.png", "a-b/1.png", "a.png", "b.png"]
    touch(tmp_path / "images", *reversed(names))
    touch(tmp_path, "hole.png")
    items, _ = pairs(tmp_path, masks=str(tmp_path / "hole.png"))
    assert [item.name for item in items] == names
    assert [item.position for item in items] == list(range(5))


@pytest.mark.parametrize(("part", "positions"), [({"limit": 2}, [0, 1]), ({"offset": 1, "limit": 1}, [1])])
def test_a_part_of_the_list_keeps_its_places_in_it(tmp_path, part, positions):
    touch(tmp_path / "images", "a.png", "b.png", "c.png")
    touch(tmp_path / "masks", "a.png", "b.png", "c.png")
    items, _ = pairs(tmp_path, **part)
    assert [item.position for item in items] == positions


def test_an_offset_beyond_the_last_image_is_refused(tmp_path):
    touch(tmp_path / "images", "a.png")
    touch(tmp_path / "masks", "a.png")
    assert refusal(tmp_path, offset=1) == "offset: 1 leaves none of the 1 images of DIR/images"


def test_a_seed_by_name_depends_on_neither_ending_nor_place(tmp_path):
    touch(tmp_path / "images", "b.png")
    touch(tmp_path / "masks", "b.png", "a.png")
    settings = RunConfig(images="", masks="", output="", stages=[{"inpaint": {}}])
    (alone,), _ = pairs(tmp_path)
    (tmp_path / "images" / "b.png").rename(tmp_path / "images" / "b.jpg")
    touch(tmp_path / "images", "a.png")
    (_, second), _ = pairs(tmp_path)
    assert (alone.position, second.position) == (0, 1)
    assert alone.seed(settings, 0) == second.seed(settings, 0)
    assert alone.seed(settings, 0) != alone.seed(settings, 1)


def test_photos_of_formats_that_are_not_read_are_named(tmp_path):
    touch(tmp_path / "images", "a.png", "IMG_1.HEIC", "deep/b.avif", "notes.txt")
    touch(tmp_path / "masks", "a.png")
    items, remarks = pairs(tmp_path)
    assert [item.name for item in items] == ["a.png"]
    assert [remark.replace(str(tmp_path), "DIR") for remark in remarks] == [
        "IMG_1.HEIC, deep/b.avif of DIR/images: not read; convert to JPEG, PNG or TIFF"
    ]


@pytest.mark.parametrize(
    ("mask", "said", "words"),
    [
        ("mask.png", "mask.png", "mask.png of DIR/images: not taken for an image, but for what masks: says"),
        ("masks/a.png", "masks/", "masks/a.png of DIR/images: not taken for an image, but for what masks: says"),
    ],
)
def test_masks_among_the_images_are_no_images(tmp_path, mask, said, words):
    touch(tmp_path / "images", "a.jpg", mask)
    items, remarks = pairs(tmp_path, masks=f"{tmp_path}/images/{said}")
    assert [(item.name, item.mask) for item in items] == [("a.jpg", str(tmp_path / "images" / mask))]
    assert [remark.replace(str(tmp_path), "DIR") for remark in remarks] == [words]


def test_one_folder_cannot_be_that_of_images_and_that_of_masks(tmp_path):
    touch(tmp_path / "images", "a.png", "a_mask.png")
    (tmp_path / "link").symlink_to("images")
    words = "is the folder of images, too; masks need a folder or a file of their own"
    for masks in ("images", "link"):
        assert refusal(tmp_path, masks=f"{tmp_path}/{masks}") == f"masks: DIR/{masks} {words}"


@pytest.mark.parametrize(("image", "mask"), [("k\u00e4se", "ka\u0308se"), ("ka\u0308se", "k\u00e4se")])
def test_an_accent_is_the_same_in_one_character_and_in_two(tmp_path, image, mask):
    touch(tmp_path / "images", f"{image}.jpg")
    touch(tmp_path / "masks", f"{mask}.png")
    assert found(tmp_path) == [(f"{image}.jpg", f"masks/{mask}.png")]


def test_a_folder_of_nothing_that_is_read_says_what_it_holds(tmp_path):
    touch(tmp_path / "images", "IMG_1.HEIC", "IMG_2.HEIC", "IMG_3.HEIC", "IMG_4.HEIC")
    touch(tmp_path / "masks", "a.png")
    assert refusal(tmp_path).endswith(
        "; IMG_1.HEIC, IMG_2.HEIC, IMG_3.HEIC and 1 more of DIR/images: not read; convert to JPEG, PNG or TIFF"
    )
