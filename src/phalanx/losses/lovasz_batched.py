"""The exact Lovasz hinge of all images and classes in one sort, as a GPU computes it. :mod:`.lovasz` defines it.

Each mask (an image's class) is a segment. One 64-bit key contains the segment and the 31 bits of the error's float. So
one stable sort brings every segment's errors into descending order, equal ones by pixel. Triton's kernels
(:mod:`.lovasz_triton`) put the pixel and its truth into the key as well, and need no other tensor after the sort.
Counts are integers: running sums along the sorted truth, minus what they are where a segment begins.

Only active pixels (of positive error) are sorted. Their number is known to the device alone, and the host must know the
shape of a tensor. So room is reserved by the count of the step before. The host reads the count when the sort and all
that follows is queued, so that the device has work meanwhile. If the room was too small, the result is dropped, and
computed again from a count that is waited for. So the result is always exact. A recorded step has the room of its
recording (:mod:`..runtime.capture`). The host reads the count after each replay, and the step is computed again if the
room was too small.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..runtime.capture import Check, Verdict, recorded_checks
from .plan import TINY

REPLAYS = 50  # of a recorded step, before it is recorded again with less room
MARGIN = 1.25  # room for a quarter more active pixels than in the step before
KEY_BITS, ERROR_BITS = 63, 31  # of a positive int64; of a positive float32
MOST = (1 << 31) - 2  # elements of a map in which PyTorch finds positions


class BatchedLovasz:
    """The Lovasz hinge as a :class:`.batch_loss.MapTerm`. It remembers how many pixels of a shape were active.

    Attributes:
        room: by shape, for the next step.
        least: by shape, what a recording reserves at least, since an earlier one was too small.
    """

    def __init__(self) -> None:
        self.room: dict[tuple[int, ...], int] = {}
        self.least: dict[tuple[int, ...], int] = {}

    def forward(
        self, logits: Tensor, source: Tensor, truth: Tensor, factors: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As :meth:`.batch_loss.MapTerm.forward`; sorts by float32 errors, whatever the logits are."""
        batch, classes, height, width = logits.shape
        masks, truth, most = batch * classes, truth.view(-1), segments_of_a_sort(height * width)
        if masks <= most:
            loss, *saved = self._exact(None, logits, source, truth, factors)
            return loss, tuple(saved)
        parts = [slice(first, first + most) for first in range(0, masks, most)]
        found = [self._exact(part, logits, source, truth[part], factors[part]) for part in parts]
        loss, steps, places = (torch.cat(column) for column in zip(*found, strict=True))
        return loss, (steps, places)

    def backward(self, gradient: Tensor, saved: tuple[Tensor, ...], upstream: Tensor) -> None:
        """As :meth:`.batch_loss.MapTerm.backward`."""
        steps, places = saved
        gradient.put_(places, steps * upstream, accumulate=True)  # each place occurs once

    def errors(self, logits: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Errors float32 of S P pixels, 0 of those that are not active, and what :meth:`rank` reads the truth from."""
        one = constants(1, 1, logits.device).one
        errors = torch.addcmul(one, torch.add(one, source, alpha=-2), logits)
        return errors.clamp_(min=0).view(-1), source.view(-1)  # NaN stays, so that the loss shows it

    def rank(self, room: int, part: slice | None, logits: Tensor, source: Tensor) -> Any:
        """Active pixels sorted by one key, as :meth:`scan` needs them, with :class:`Ranking`'s ``starts`` first.

        The map of errors, the largest tensor, is freed before the sort.

        Args:
            room: places for them.
            part: of the segments; None: all.
        """
        errors, sides = self.part(part, logits, source)
        pixels = logits.shape[2] * logits.shape[3]
        masks = len(errors) // pixels
        place = torch.nonzero_static(errors, size=room, fill_value=-1).view(-1)  # ascending; -1 if free
        segment, error = place.div(pixels, rounding_mode="floor"), errors[place]
        del errors
        bits = error.view(torch.int32).bitwise_and_((1 << ERROR_BITS) - 1)  # without a NaN's sign
        order = torch.add(bits, segment, alpha=-1 << ERROR_BITS).sort(stable=True, descending=True).indices
        segments, place = segment[order], place[order]
        if part and part.start:
            place.add_(part.start * pixels)
        starts = torch.searchsorted(segments, constants(masks, pixels, segments.device).numbers)
        return Ranking(starts, segments, place, error[order], sides[place])

    def scan(self, ranking: Any, truth: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss float64[S] of each segment, and each active pixel's part of the gradient [N] and place int64[N].

        With I foreground pixels still right and U pixels in the union before a step, a foreground pixel adds 1 / U and
        a background pixel I / (U (U + 1)). Here both are counted without the pixel itself, so that a foreground pixel
        has I - 1 and U - 1. ``TINY`` is added, so that the first step of a mask without foreground is TINY / TINY = 1.
        The part of a free place is arbitrary.

        Args:
            ranking: from :meth:`rank`.
            truth: float64[S], foreground pixels of each segment, those without error included.
            factors: float[S], of the loss of each segment, in the type of its gradient.
        """
        starts, segments, places, errors, side = ranking
        first = starts[:-1]
        passed = side.cumsum(0)
        right = (truth + passed[first - 1])[segments].sub_(passed).add_(TINY)
        union = torch.arange(len(side), device=side.device).sub_(first[segments]) + right
        steps = torch.where(side, constants(1, 1, side.device).one, right.div_(union)).div_(union.add_(1))
        loss = torch.segment_reduce(steps * errors, "sum", offsets=starts, unsafe=True)
        factors = factors[segments]
        return loss, torch.addcmul(factors, factors, side, value=-2).mul_(steps), places

    def _exact(
        self, part: slice | None, logits: Tensor, source: Tensor, truth: Tensor, factors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, steps and places of all active pixels of a part of the segments, None: all, as of :meth:`scan`."""
        first = part.start if part else 0
        shape = *logits.shape, first
        room, checks = self.room.get(shape), recorded_checks()
        if room is not None and checks is not None:
            room = room_for(max(room, self.least.get(shape, 0)))
            ranking = self.rank(room, part, logits, source)
            checks.append(Check(ranking[0][0], RecordedRoom(self, shape, room).judge))
            loss, steps, places = self.scan(ranking, truth, factors)
            return loss, *self.padded(steps, places, first * shape[2] * shape[3])
        if room is not None:
            ranking = self.rank(room, part, logits, source)
            read = read_later(ranking[0][0])
            loss, steps, places = self.scan(ranking, truth, factors)
            if (left := read()) > 0:
                self.room[shape] = room_for(room - left)
                return loss, *self.used(steps, places, left)
            del ranking, loss, steps, places
        count = len(self.part(part, logits, source)[0].nonzero())  # waits for the device
        room = self.room[shape] = room_for(count)
        loss, steps, places = self.scan(self.rank(room, part, logits, source), truth, factors)
        return loss, *self.used(steps, places, room - count)

    def part(self, part: slice | None, logits: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`errors` of a part of the segments, with what serves for all."""
        errors, sides = self.errors(logits, source)
        if part is None:
            return errors, sides
        pixels = errors.numel() // (logits.shape[0] * logits.shape[1])
        return errors.view(-1, pixels)[part].view(-1), sides

    def used(self, steps: Tensor, places: Tensor, free: int) -> tuple[Tensor, Tensor]:
        """What :meth:`backward` adds, without the free places."""
        return steps[free:], places[free:]

    def padded(self, steps: Tensor, places: Tensor, least: int) -> tuple[Tensor, Tensor]:
        """What :meth:`backward` adds, with nothing for free places, whose number the host does not know.

        Args:
            least: the first place of the part of the segments.
        """
        anywhere = torch.arange(len(places), device=places.device)  # one each, or additions would wait for each other
        free = places < least
        return steps.masked_fill(free, 0), torch.where(free, anywhere, places)


class RecordedRoom:
    """The room of a recorded step of a shape, judged by what its replays needed."""

    def __init__(self, term: BatchedLovasz, shape: tuple[int, ...], room: int):
        self.term, self.shape, self.room = term, shape, room
        self.replays = self.most = 0

    def judge(self, free: int) -> Verdict:
        """Whether a replay was right, by the number of places that remained free; also whether a recording with less
        room would be quicker, as when the network has learned."""
        if free <= 0:
            self.term.least[self.shape] = self.room
            return "wrong"
        self.replays, self.most = self.replays + 1, max(self.most, self.room - free)
        needed = room_for(self.most)
        if self.replays < REPLAYS or 2 * room_for(needed) > self.room:
            return "right"
        self.term.room[self.shape] = self.term.least[self.shape] = needed
        return "wasteful"


class Ranking(NamedTuple):
    """Active pixels by segment and descending error. Free places come first; there is at least one.

    Attributes:
        starts: int64[S + 1]: first of each segment, and N.
        segments: int64[N]; -1 if free.
        places: int64[N], pixels counted through all segments; before the first of the part if free.
        errors: float32[N].
        truth: bool[N].
    """

    starts: Tensor
    segments: Tensor
    places: Tensor
    errors: Tensor
    truth: Tensor


class Constants(NamedTuple):
    """``one``: 1 in float32[]; ``numbers``: of segments, and of what follows them, int64[S + 1]; ``bounds``: the lowest
    keys of those that a kernel makes, int64[S + 1]."""

    one: Tensor
    numbers: Tensor
    bounds: Tensor


@cache  # what a recorded step reads must not be freed
def constants(segments: int, pixels: int, device: torch.device) -> Constants:
    """Made once per device and shape."""
    numbers = torch.arange(segments + 1, device=device)
    return Constants(torch.ones((), device=device), numbers, numbers << (1 + pixel_bits(pixels) + ERROR_BITS))


def pixel_bits(pixels: int) -> int:
    """Bits of the number of a pixel."""
    return max(1, (pixels - 1).bit_length())


def segments_of_a_sort(pixels: int) -> int:
    """How many segments of so many pixels one key can number.

    >>> segments_of_a_sort(2048 * 2048), segments_of_a_sort(4096 * 4096)
    (511, 127)
    """
    return max(1, min((1 << KEY_BITS - ERROR_BITS - 1 - pixel_bits(pixels)) - 1, MOST // pixels))


def room_for(count: int) -> int:
    """Places to reserve where so many are needed: more than those, in steps of an eighth, so that sizes recur.

    >>> room_for(0), room_for(1000), room_for(1010)
    (1024, 1280, 1280)
    """
    wanted = max(1024, int(count * MARGIN))
    step = 1 << max(0, wanted.bit_length() - 4)
    return -(-wanted // step) * step


def read_later(value: Tensor) -> Callable[[], int]:
    """A function that returns an integer of the device. What is queued in between is not waited for."""
    if not value.is_cuda:
        return lambda: int(value)
    copy, copied = torch.empty((), dtype=value.dtype, pin_memory=True), torch.cuda.Event()
    copy.copy_(value, non_blocking=True)
    copied.record()

    def read() -> int:
        copied.synchronize()
        return int(copy)

    return read
