"""Scheduling of windows over a stream of frames of unknown length. Pure arithmetic."""

from stavis.clips import CLIP_LENGTH, Edges, Window, reference_window, repeat_window


class WindowSchedule:
    """Emits the windows of a stream of frames, each as soon as its last frame has arrived.

    Args:
        stride: Every `stride`-th frame is the target of a window, and so is the last frame that can be one.
        edges: "repeat": every frame is a target; the first and last frames are repeated beyond the ends of the video.
            "reference": the published windows, which start at a frame; the first `clip_length // 2` frames are not
            targets.
        past_end: With "reference", also emit the published windows whose target lies after the last frame.
        clip_length: Number of frames in a window.
    """

    def __init__(
        self,
        *,
        stride: int = 1,
        edges: Edges = "repeat",
        past_end: bool = False,
        clip_length: int = CLIP_LENGTH,
    ) -> None:
        if stride < 1:
            raise ValueError(f"stride is {stride}; it must be 1 or more")
        if edges not in ("repeat", "reference"):
            raise ValueError(f"edges is {edges!r}; allowed: repeat, reference")
        self.stride = stride
        self.edges = edges
        self.clip_length = clip_length
        # Frames from the last start to the end of the video.
        self._last_inside = 2 if past_end else clip_length // 2 + 1
        self._next = 0  # the next target ("repeat") or start ("reference")
        self._handed_out = -1
        self._num_known = 0

    def advance(self, num_known: int) -> list[Window]:
        """Returns the windows completed by frames 0..`num_known` - 1; more frames may follow."""
        self._num_known = num_known
        half = self.clip_length // 2
        # Frames from `_next` to the end of its window.
        ahead = half - 1 if self.edges == "repeat" else self.clip_length - 1
        due = []
        while self._next + ahead < num_known:
            due.append(self._window(self._next, num_known))
            self._next += self.stride
        return due

    def finish(self, num_frames: int) -> list[Window]:
        """Returns the remaining windows once the video is known to have `num_frames` frames."""
        last = num_frames - 1 if self.edges == "repeat" else num_frames - self._last_inside
        due = []
        while self._next <= last:
            due.append(self._window(self._next, num_frames))
            self._next += self.stride
        if 0 <= self._handed_out < last:
            due.append(self._window(last, num_frames))
        return due

    def oldest_needed(self) -> int:
        """Returns the first frame that a later window can contain."""
        newest_start = max(0, self._num_known - self.clip_length)  # of the window around the last frame
        if self.edges == "repeat":
            return max(0, min(self._next - self.clip_length // 2, newest_start))
        return min(self._next, newest_start)

    def _window(self, position: int, num_frames: int) -> Window:
        self._handed_out = position
        make = repeat_window if self.edges == "repeat" else reference_window
        return make(position, num_frames, self.clip_length)
