"""Truth: the batch that was packed, and the pickler that batches would travel by otherwise."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from mm_mhmoe_data import slots as slots_file
from mm_mhmoe_data.ring import Empty, step_loader
from mm_mhmoe_data.sampling import StepSampler
from mm_mhmoe_data.slots import Parcel, Slots, receive, stop_receiving

from mm_mhmoe.batch import Images, ImageTextBatch, Texts

RECEIVER = 1_000_000


@pytest.fixture
def received() -> Iterator[None]:
    receive(RECEIVER)
    yield
    stop_receiving(RECEIVER)


def batch(empty: Empty, value: int = 7, size: int = 4) -> ImageTextBatch:
    pixels_BHWC = empty((2, size, size, 3), torch.uint8).copy_(torch.arange(2 * size * size * 3).view(2, size, size, 3))
    pixels_BHWC += value
    return ImageTextBatch(
        images=Images(pixels_BCHW=pixels_BHWC.permute(0, 3, 1, 2), masked_BN=None, codes_BN=None),
        texts=Texts(
            ids_BL=torch.tensor([[0, value, 2]] * 2), valid_BL=torch.ones(2, 3, dtype=torch.bool), masked_BL=None
        ),
        keys=("a", "b"),
    )


def sent(slots: Slots, value: object) -> object:
    return pickle.loads(ForkingPickler.dumps(slots.pack(value, RECEIVER, 0)))


def test_a_batch_arrives_as_it_was_packed(received: None) -> None:
    slots = Slots(2)
    for value in range(6):
        slots.turn()
        packed = batch(slots.empty, value)
        arrived = sent(slots, packed)
        assert isinstance(arrived, ImageTextBatch) and arrived.images is not None and arrived.texts is not None
        assert packed.images is not None and packed.texts is not None
        assert torch.equal(arrived.images.pixels_BCHW, packed.images.pixels_BCHW)
        assert arrived.images.pixels_BCHW.stride() == packed.images.pixels_BCHW.stride()
        assert torch.equal(arrived.texts.ids_BL, packed.texts.ids_BL) and arrived.keys == ("a", "b")
        assert arrived.texts.valid_BL.dtype == torch.bool and arrived.texts.valid_BL.all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6, dtype=torch.int64).view(2, 3).t(),
        torch.arange(4.0).to(torch.bfloat16),
        torch.arange(4.0, requires_grad=True),
        torch.nn.Parameter(torch.arange(3.0)),
        torch.zeros(0, 5, dtype=torch.bool),
        torch.tensor(2.5),
    ],
    ids=lambda tensor: f"{type(tensor).__name__}-{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_tensors_outside_of_the_pieces(received: None, tensor: torch.Tensor) -> None:
    slots = Slots(1)
    slots.turn()
    arrived = sent(slots, {"x": tensor})["x"]  # type: ignore[index]
    assert type(arrived) is type(tensor) and arrived.dtype == tensor.dtype and torch.equal(arrived, tensor)
    arrived.detach().zero_()  # it may be written to, and is a copy
    assert tensor.numel() == 0 or tensor.abs().sum() > 0


def test_several_views_of_a_piece_and_of_several_pieces(received: None) -> None:
    slots = Slots(1)
    slots.turn()
    wide, narrow = slots.empty((4, 6), torch.float32).normal_(), slots.empty((3,), torch.int64).fill_(-5)
    views = wide, wide[1:3, ::2], wide.t(), wide.view(torch.uint8)[:, 3:], narrow, narrow[2]
    for view, arrived in zip(views, sent(slots, views), strict=True):  # type: ignore[call-overload]
        assert torch.equal(view, arrived) and view.stride() == arrived.stride() and view.dtype == arrived.dtype


def test_an_empty_piece(received: None) -> None:
    slots = Slots(1)
    slots.turn()
    sizes = [tensor.shape for tensor in sent(slots, [slots.empty((0, 3), torch.uint8), torch.zeros(2, 0)])]  # type: ignore[attr-defined]
    assert sizes == [(0, 3), (2, 0)]


def test_a_piece_travels_once_and_again_when_it_has_grown() -> None:
    slots, travelled = Slots(2), []
    for size in (4, 4, 4, 2, 6, 6, 6):
        slots.turn()
        travelled.append([place for place in slots.pack(batch(slots.empty, size=size), RECEIVER, 3).pieces])
    assert travelled == [[(3, 0, 0)], [(3, 1, 0)], [], [], [(3, 0, 0)], [(3, 1, 0)], []]


def test_what_was_sent_before_stays_where_it_lay(received: None) -> None:
    """A batch keeps its memory when its piece is replaced by a larger one."""
    slots = Slots(1)
    slots.turn()
    small = sent(slots, slots.empty((3,), torch.uint8).fill_(1))
    slots.turn()
    large = sent(slots, slots.empty((9,), torch.uint8).fill_(2))
    assert small.tolist() == [1] * 3 and large.tolist() == [2] * 9  # type: ignore[attr-defined]


def holds_step(step: int, empty: Empty) -> torch.Tensor:
    return empty((1000,), torch.int32).fill_(step)


@pytest.mark.parametrize("taken", [0, 3, 20])
def test_nothing_is_kept_after_the_last_batch(taken: int) -> None:
    loader = step_loader(holds_step, StepSampler(0, 20), workers=2)
    batches = iter(loader)
    for step in range(taken):
        batch = next(batches)
        assert batch.tolist() == [step] * 1000
    if taken == 20:
        assert next(batches, None) is None
    del batches
    assert slots_file._ARRIVED == {}
    assert not taken or batch.tolist() == [taken - 1] * 1000


def test_two_passes_at_the_same_time_do_not_meet() -> None:
    loader = step_loader(holds_step, StepSampler(0, 6), workers=1)
    for a, b in zip(loader, loader, strict=True):
        assert torch.equal(a, b)
        a.fill_(-1)
        assert b.min() >= 0


def test_a_parcel_is_small() -> None:
    slots = Slots(1)
    for _ in range(2):
        slots.turn()
        parcel = slots.pack(batch(slots.empty, size=200), RECEIVER, 0)
    assert isinstance(parcel, Parcel) and not parcel.pieces and len(parcel.content) < 2000
