"""Stem of the network, computed once per frame instead of sixteen times.

The stem's 7x7x7 convolution is a sum over seven frames of a 7x7 convolution each ("tap"), and a tap's response to a
frame is the same in every window. An output inside a window is a sum of seven responses; the three at either end of a
window are sums of fewer, as the convolution is padded with zeros there. BatchNorm is folded into the taps. Attention
differs from window to window, but it is a positive factor that is constant over time, so that it commutes with the
maximum over time: the max-pooling's temporal half is shared, too. Behind that nothing is shared exactly; what is shared
within a bound is in `stavis.engine.stage`.
"""

import functools
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stavis.engine.batch_norm import fold_batch_norm
from stavis.model import STAViS

# The frames under the seven taps around an output (one, if the stem has no temporal kernel); None where the window has
# ended.
Neighborhood = tuple[int | None, ...]
Step = tuple[Neighborhood, ...]
"""The outputs of the stem that a time step behind the max-pooling is the maximum of."""


class StemOutput(NamedTuple):
    """The inputs of the network after the stem for one window."""

    steps: list[Step]  # what each time step depends on: windows that have a step in common share its maximum
    # The stem's output after ReLU, its maximum over 3 time steps at every second, each (64, h, w).
    maxima: list[Tensor]
    mean: Tensor  # (64, h, w), its mean over time


class StemCache:
    """The stem's outputs for windows over a stream of frames."""

    def __init__(self, model: STAViS) -> None:
        weight, bias = fold_batch_norm(model.conv1, model.bn1)
        self._num_taps = weight.shape[2]
        self._half = self._num_taps // 2
        # (7 * 64, 3, 7, 7): all taps of a frame in one convolution.
        self.taps = weight.permute(2, 0, 1, 3, 4).flatten(0, 1).contiguous()
        # Every output has a frame under its middle tap, which adds the bias.
        self.bias = F.pad(bias, (self._half * len(bias), self._half * len(bias)))
        self._frames: dict[int, Tensor] = {}
        # Everything below is computed when a window needs it and dropped when windows have moved on: the responses of
        # a frame are a hundred times larger than the frame.
        self._responses: dict[int, Tensor] = {}  # frame -> (7, 64, h, w)
        self._sums: dict[Neighborhood, Tensor] = {}  # not yet rectified
        self._outputs: dict[Neighborhood, Tensor] = {}
        self._maxima: dict[Step, Tensor] = {}

    def add_frame(self, index: int, frame: Tensor) -> None:
        """Adds a (3, H, W) frame minus the mean."""
        self._frames[index] = frame

    def drop_frames_before(self, index: int) -> None:
        for old in [i for i in self._frames if i < index]:
            del self._frames[old]
        self._give_up_before(index)

    def _give_up_before(self, index: int) -> None:
        self._give_up_responses_before(index)
        for kept in (self._sums, self._outputs):
            for key in [key for key in kept if _first(key) < index]:
                del kept[key]
        for step in [step for step in self._maxima if first_frame(step) < index]:
            del self._maxima[step]

    def window(self, frames: tuple[int, ...]) -> StemOutput:
        """Computes the inputs of the network after the stem for one window.

        `frames` are T, all added and not dropped, in any order and with repetitions. Least is computed where each
        window's first frame is not before the last window's.
        """
        self._give_up_before(min(frames))
        padded = (None,) * self._half + frames + (None,) * self._half
        keys: list[Neighborhood] = [padded[t : t + self._num_taps] for t in range(len(frames))]
        # Behind each output, the first frame that a later one or the next window needs: what lies before it goes at
        # once. Otherwise a first window would hold all its frames' responses.
        needed = accumulate(map(_first, reversed(keys[1:])), min, initial=max(frames) - self._num_taps + 1)
        outputs = []
        for key, first in zip(keys, reversed(list(needed)), strict=True):
            outputs.append(self._output(key))
            self._give_up_responses_before(first)
        mean = outputs[0].clone()
        for output in outputs[1:]:
            mean += output
        mean /= len(outputs)
        spans = [slice(max(0, t - 1), t + 2) for t in range(0, len(frames), 2)]
        steps = [tuple(keys[span]) for span in spans]
        maxima = [self._maximum(step, outputs[span]) for step, span in zip(steps, spans, strict=True)]
        # Windows that go on ask for sums of fewer frames at their end no more; if they go back, those are made again.
        for key in [key for key in self._sums if key[-1] is None and key not in keys]:
            del self._sums[key]
        return StemOutput(steps, maxima, mean)

    def _give_up_responses_before(self, index: int) -> None:
        for old in [i for i in self._responses if i < index]:
            del self._responses[old]

    def _output(self, key: Neighborhood) -> Tensor:
        output = self._outputs.get(key)
        if output is None:
            output = torch.relu(self._sum(key))
            if None not in key:
                self._outputs[key] = output
        return output

    def _maximum(self, step: Step, outputs: list[Tensor]) -> Tensor:
        maximum = self._maxima.get(step)
        if maximum is None:
            maximum = functools.reduce(torch.maximum, outputs)
            if is_whole(step):
                self._maxima[step] = maximum
        return maximum

    def _sum(self, key: Neighborhood) -> Tensor:
        """The sum of a neighborhood's responses, from the sum of one frame fewer if it is of any use to others.

        From window to window an output moves towards the window's beginning: first it lacks the frames behind the
        window's end, one fewer each time, later those before its beginning, one more each time. The latter sums are
        made on the way to the whole one and wait for their windows, so that responses need not wait.
        """
        found = self._sums.get(key)
        if found is not None:
            return found
        present = [tap for tap, frame in enumerate(key) if frame is not None]
        if key[-1] is not None and len(present) > self._half + 1:
            total = self._sum(_without(key, present[0])) + self._response(key, present[0])
        elif (shorter := self._sums.get(_without(key, present[-1]))) is not None:
            total = shorter + self._response(key, present[-1])
        else:
            total = self._response(key, present[0]).clone()
            for tap in present[1:]:
                total += self._response(key, tap)
        if None in key:  # whole ones are kept as outputs
            self._sums[key] = total
        return total

    def _response(self, key: Neighborhood, tap: int) -> Tensor:
        frame = key[tap]
        assert frame is not None
        responses = self._responses.get(frame)
        if responses is None:
            convolved = F.conv2d(
                self._frames[frame][None], self.taps, self.bias, stride=2, padding=self.taps.shape[-1] // 2
            )[0]
            responses = self._responses[frame] = convolved.view(self._num_taps, -1, *convolved.shape[1:])
        return responses[tap]


def is_whole(step: Step) -> bool:
    """Whether a time step does not depend on where its window begins and ends."""
    return not any(None in neighborhood for neighborhood in step)


def first_frame(step: Step) -> int:
    """The first frame that a time step depends on."""
    return min(map(_first, step))


def _without(key: Neighborhood, tap: int) -> Neighborhood:
    return (*key[:tap], None, *key[tap + 1 :])


def _first(key: Iterable[int | None]) -> int:
    return min(frame for frame in key if frame is not None)
