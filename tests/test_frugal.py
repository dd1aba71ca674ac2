"""Networks that go on with less when memory does not suffice."""

from __future__ import annotations

import weakref

import pytest
import torch

from repaint.errors import RunError
from repaint.stages import filling, frugal
from repaint.stages.device import prepared
from repaint.stages.frugal import FewerAtOnce, SmallerCopy, is_gpu_lost, is_out_of_memory, while_memory_suffices
from repaint.stages.inpaint import Inpaint

from . import tiny


class Small:
    """A network for which more than `fits` images are too many."""

    def __init__(self, fits: int) -> None:
        self.fits, self.shown = fits, []

    def __call__(self, x, t, *labels):
        self.shown.append(len(x))
        if len(x) > self.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")
        return x * t + sum(labels)


@pytest.mark.parametrize(
    ("fits", "shown"), [(8, [8]), (4, [8, 4, 4]), (3, [8, 4, 2, 2, 2, 2]), (1, [8, 4, 2] + [1] * 8)]
)
def test_batches_are_halved_until_they_fit_and_stay_so(fits, shown):
    small = Small(fits)
    frugal = FewerAtOnce("net", small)
    x, t, y = torch.arange(8.0), torch.tensor(3.0), torch.arange(8.0)
    assert torch.equal(frugal(x, t, y), x * 3 + y)
    assert small.shown == shown
    assert len(frugal.told()) == shown.index(shown[-1])
    assert frugal.told() == []
    frugal(x, t, y)
    assert small.shown == shown + [shown[-1]] * (8 // shown[-1])


def test_what_was_done_is_said():
    frugal = FewerAtOnce("net", Small(4))
    frugal(torch.ones(8), torch.tensor(1.0))
    assert frugal.told() == ["out of memory with 8 windows at once: net goes on with 4"]


def test_one_image_that_does_not_fit_is_an_error():
    with pytest.raises(MemoryError, match="net does not fit even with one window at once"):
        FewerAtOnce("net", Small(0))(torch.ones(4), torch.tensor(1.0))


def test_other_failures_are_not_taken_for_want_of_memory():
    def broken(x, t):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        FewerAtOnce("net", broken)(torch.ones(4), torch.tensor(1.0))


def test_a_photo_is_filled_in_spite_of_it_and_the_user_is_told(tmp_path, monkeypatch):
    """Four windows at once do not fit; with one after the other the bytes are those of one after the other."""
    prior = str(tiny.checkpoint(tmp_path / "p.safetensors", num_channels=32, channel_mult="1,1"))
    settings = Inpaint.model_validate({"prior": prior, "sampler": {"repaint": {"t_T": 4, "jump_length": 2}}})
    photo = tiny.photo(40, 41, (4, 4, 30, 30))
    *_, alone = settings.build("cpu")([photo], [0])

    def tight(network):
        def shown(x, *told):
            if len(x) > 1:
                raise MemoryError("out of memory")
            return network(x, *told)

        return shown

    monkeypatch.setattr(filling, "image_by_image", tight)
    *_, last = settings.build("cpu")([photo], [0])
    assert torch.equal(last.photos[0].rgb, alone.photos[0].rgb)
    assert last.notes
    assert all(note.startswith("out of memory with ") for note in last.notes)


def test_an_image_is_looked_at_smaller_until_it_fits_and_that_is_said():
    def look(image, most_px):
        if most_px > 500_000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return most_px

    frugal = SmallerCopy("finder", look, 1_600_000)
    assert frugal(torch.ones(3, 4, 4)) == 400_000
    assert frugal.told() == [
        "out of memory with 1.6 megapixels: finder looks at 0.8 of them",
        "out of memory with 0.8 megapixels: finder looks at 0.4 of them",
    ]
    assert frugal(torch.ones(3, 4, 4)) == 400_000
    assert frugal.told() == []


def test_an_image_that_fits_in_no_size_is_an_error_and_other_errors_are_themselves():
    def look(image, most_px):
        raise MemoryError

    with pytest.raises(MemoryError, match=r"out of memory: finder does not fit even with 0.1 megapixels"):
        SmallerCopy("finder", look, 100_000)(torch.ones(3, 4, 4))

    def broken(image, most_px):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        SmallerCopy("finder", broken, 100_000)(torch.ones(3, 4, 4))


def test_steps_end_where_memory_does_not_suffice_and_hold_nothing_by_then(monkeypatch):
    held, let_go = [], []

    def steps():
        yield 1
        large = torch.ones(8)
        held.append(weakref.ref(large))
        yield 2
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(frugal, "give_back_memory", lambda: let_go.append(held[0]() is None))
    assert list(while_memory_suffices(steps())) == [1, 2]
    assert let_go == [True]


def test_steps_that_fail_otherwise_fail_and_others_come_to_their_end():
    def steps(error):
        yield 1
        if error is not None:
            raise error

    assert list(while_memory_suffices(steps(None))) == [1]
    for error in (RuntimeError("shapes do not match"), KeyError("x")):
        with pytest.raises(type(error)):
            list(while_memory_suffices(steps(error)))


@pytest.mark.parametrize(
    ("error", "so"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_want_of_memory_is_told_from_other_failures(error, so):
    assert is_out_of_memory(error) == so


def test_a_gpu_that_no_longer_answers_when_asked_for_memory_raises_nothing(monkeypatch):
    asked = []

    def empty_cache():
        asked.append(True)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    frugal.give_back_memory()
    assert asked


@pytest.mark.parametrize(
    ("error", "answers", "lost"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"), True, False),
        (RuntimeError("CUDA error: out of memory"), False, False),
        (torch.OutOfMemoryError("CUDA out of memory"), False, False),
        (ValueError("no"), False, False),
    ],
    ids=repr,
)
def test_a_gpu_is_lost_if_it_failed_and_does_not_answer(monkeypatch, error, answers, lost):
    def synchronize():
        if not answers:
            raise error

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert is_gpu_lost(error) == lost


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="this torch has none")
def test_what_torch_says_of_a_gpu_needs_no_words():
    assert is_gpu_lost(torch.AcceleratorError("an illegal memory access was encountered", 700))


def test_a_device_that_does_not_answer_is_refused_in_one_line(monkeypatch):
    def zeros(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTry again.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(RunError, match=r"^device: cuda does not answer \(CUDA out of memory\.\); use device: cpu.*"):
        prepared("cuda", "float32")
