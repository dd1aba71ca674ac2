"""How far the rims of marks reach, in pictures where it is known."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from repaint.stages.rims import rim_px


def scratched(side: int, soft: float, contrast: float, *, texture: float = 0.0) -> tuple[Tensor, Tensor]:
    """Marks of 3 px, and luma with a scratch there that fades over `soft` px on either side."""
    g = torch.Generator().manual_seed(0)
    light = 0.5 + texture * (F.avg_pool2d(torch.randn(1, 1, side + 4, side + 4, generator=g), 5, 1)[0])
    away = ((torch.arange(side) - side // 2).abs() - 1).clamp(min=0).float()  # from the 3 px in the middle
    fading = (1 - away / (soft + 1)).clamp(min=0)
    mark = (away == 0)[None, None].expand(1, side, side)
    return mark, light + contrast * fading.expand(1, side, side)


@pytest.mark.parametrize("texture", [0.0, 1.0])
@pytest.mark.parametrize("contrast", [0.4, -0.4, 0.1])
@pytest.mark.parametrize("soft", [0, 2, 5])
def test_a_rim_is_as_wide_as_it_fades(soft, contrast, texture):
    mark, light = scratched(2400, soft, contrast, texture=texture * abs(contrast))
    assert rim_px(mark, light) == soft


@pytest.mark.parametrize("side", [1, 5, 64, 300])
def test_no_rim_is_wider_than_it_may_be(side):
    mark, light = scratched(side, 50, 0.4)
    assert 0 <= rim_px(mark, light) <= 2


def test_a_photo_without_marks_or_without_anything_else_has_no_rims():
    light = torch.rand(1, 40, 50)
    assert rim_px(torch.zeros(1, 40, 50, dtype=torch.bool), light) == 0
    assert rim_px(torch.ones(1, 40, 50, dtype=torch.bool), light) == 0


def test_light_and_dark_marks_count_together():
    mark, light = scratched(2400, 4, 0.3)
    other_mark, other = scratched(2400, 4, -0.3)
    assert abs(rim_px(torch.cat([mark, other_mark], 1), torch.cat([light, other], 1)) - 4) <= 1


@pytest.mark.parametrize("contrast", [0.4, -0.4])
def test_the_halo_of_a_sharpened_scratch_is_rim(contrast):
    mark, light = scratched(2400, 0, contrast)
    away = ((torch.arange(2400) - 1200).abs() - 1).clamp(min=0)
    for halo in ((away >= 1) & (away <= 2), (away >= 2) & (away <= 3)):
        sharpened = light - 0.25 * contrast * halo.float().expand(1, 2400, 2400)
        assert rim_px(mark, sharpened) == away[halo].max()


def test_what_the_picture_shows_beside_a_few_marks_is_no_rim():
    for seed in range(8):
        noise = torch.randn(1, 1, 552, 552, generator=torch.Generator().manual_seed(seed))
        texture = F.avg_pool2d(F.avg_pool2d(noise, 21, 1), 21, 1)[0]
        light = 0.5 + 0.1 * texture / texture.std()
        mark = torch.zeros(1, 512, 512, dtype=torch.bool)
        mark[:, 200:203, 100:300] = True
        assert rim_px(mark, torch.where(mark, light + 0.2, light)) == 0
