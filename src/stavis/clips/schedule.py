"""Which windows are due while a video's frames arrive one by one and its length is not known yet. Pure arithmetic."""

from stavis.clips import CLIP_LENGTH, Edges, Window, reference_window, repeat_window


class WindowSchedule:
    """Hands out windows over a stream of frames, each as soon as its last frame is there.

    Args:
        stride: Every `stride`-th frame is a window's target, and the last frame that can be one.
        edges: "repeat": every frame is a target, the first and last frames are repeated around the video's ends.
            "reference": the published windows, which start at a frame; the first
            `clip_length // 2` frames are no target.
        past_end: With "reference": also the published windows whose target lies behind the last frame.
        clip_length: Frames in a window.
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
        self._last_inside = (
            2 if past_end else clip_length // 2 + 1
        )  # frames from the last start to the video's end
        self._next = 0  # the next target ("repeat") or start ("reference")
        self._handed_out = -1
        self._num_known = 0

    def advance(self, num_known: int) -> list[Window]:
        """The windows that are complete when frames 0..`num_known` - 1 are there and more may come."""
        self._num_known = num_known
        half = self.clip_length // 2
        ahead = (
            half - 1 if self.edges == "repeat" else self.clip_length - 1
        )  # from `_next` to its window's end
        due = []
        while self._next + ahead < num_known:
            due.append(self._window(self._next, num_known))
            self._next += self.stride
        return due

    def finish(self, num_frames: int) -> list[Window]:
        """The windows that are left when the video turns out to have `num_frames`."""
        last = num_frames - 1 if self.edges == "repeat" else num_frames - self._last_inside
        due = []
        while self._next <= last:
            due.append(self._window(self._next, num_frames))
            self._next += self.stride
        if 0 <= self._handed_out < last:
            due.append(self._window(last, num_frames))
        return due

    def oldest_needed(self) -> int:
        """The first frame that a window still to be handed out can hold."""
        newest_start = max(0, self._num_known - self.clip_length)  # of the window around the last frame
        if self.edges == "repeat":
            return max(0, min(self._next - self.clip_length // 2, newest_start))
        return min(self._next, newest_start)

    def _window(self, position: int, num_frames: int) -> Window:
        self._handed_out = position
        make = repeat_window if self.edges == "repeat" else reference_window
        return make(position, num_frames, self.clip_length)
