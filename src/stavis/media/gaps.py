"""Gaps in the time stamps of a stream: which are real and which are closed up.

A camera that pauses, a clock that is set or a damaged time stamp can put hours between two frames. A gap of more than
`LONGEST_GAP_SECONDS` is therefore closed up: what follows it is moved to the end of what precedes it, with a warning.
Audio and video that jump together stay together. A gap that the other kind of stream fills is real (a slide that is
shown for half an hour while someone speaks) and is kept, and so are all gaps with `keep_gaps=True`.
"""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from stavis.media.container import logger

DEFAULT_FRAME_RATE = Fraction(25)  # of videos whose header gives none

LONGEST_GAP_SECONDS = 300
_LARGEST_LAG_SECONDS = 5  # between the ends of audio and video before a gap
_FRAMES_PER_GAP = 10  # a video of one frame per ten minutes has no gaps


class GapCloser:
    """Closes the gaps of one stream.

    Attributes:
        offset: Seconds to add to the time stamps of the stream.
    """

    def __init__(self, path: Path, stream: VideoStream | AudioStream, *, keep_gaps: bool) -> None:
        self.offset = Fraction(0)
        self._path = path
        self._stream = stream
        self._is_video = isinstance(stream, VideoStream)
        self._longest = longest_gap(stream)
        self._keep_gaps = keep_gaps
        self._end: Fraction | None = None  # of the last frame
        self._others_reach: Fraction | None = None  # without a gap of their own
        self._others_resume: Fraction | None = None  # after it
        # The end and the offset before the last closed gap.
        self._before_gap: tuple[Fraction, Fraction] | None = None

    def restart(self, stream: VideoStream | AudioStream) -> "GapCloser":
        """Returns a new one for reading the same stream, which may have been reopened, from another place."""
        return GapCloser(self._path, stream, keep_gaps=self._keep_gaps)

    def indexed(self) -> list[tuple[Fraction, Fraction]]:
        """Returns begin and end of the gaps to close up that the index of the container shows, in seconds."""
        return [] if self._keep_gaps else indexed_gaps(self._stream)

    def follow(self, stamp: Fraction) -> None:
        """Takes note of a packet of the other kind of stream, which may fill gaps."""
        reach = stamp if self._others_reach is None else self._others_reach
        if stamp <= max(reach, self._end or reach) + self._longest:
            self._others_reach = max(reach, stamp)
        else:
            self._others_resume = min(stamp, self._others_resume or stamp)

    def place(self, begin: Fraction, duration: Fraction, others_frame: Fraction = Fraction(0)) -> Fraction:
        """Returns when a frame begins after closing gaps; all times are in seconds.

        `others_frame` is the duration of a frame of the other kind of stream, if gaps are to be closed as there.
        """
        end, self._end = self._end, begin + duration
        if end is None or self._keep_gaps:
            return begin
        is_filled = self._others_reach is not None and self._others_reach >= begin - self._longest
        if begin - end > self._longest and not is_filled:
            self._before_gap = end, self.offset
            jump = begin - end
            if others_frame and self._others_resume is not None and self._others_reach is not None:
                others_jump = self._others_resume - self._others_reach - others_frame
                # The same jump; so the streams stay synchronous.
                if abs(others_jump - jump) < _LARGEST_LAG_SECONDS:
                    jump = others_jump
            self.offset -= jump
            self._others_reach = self._others_resume = None
            if self._is_video:
                logger.warning(
                    "%s: the clock jumps by %.0f s after %.1f s; the gap is closed up (`keep_gaps=True` keeps it)",
                    self._path,
                    begin - end,
                    end,
                )
        elif self._before_gap is not None and begin < end:
            before, offset = self._before_gap
            if before <= begin <= before + self._longest:  # the gap was a single wrong time stamp
                self.offset, self._before_gap = offset, None
        return begin + self.offset


def longest_gap(stream: VideoStream | AudioStream) -> Fraction:
    """Returns the longest gap that is kept, in seconds."""
    if isinstance(stream, AudioStream):
        return Fraction(LONGEST_GAP_SECONDS)
    rate = max(Fraction(rate or 0) for rate in (stream.average_rate, stream.guessed_rate))
    return max(Fraction(LONGEST_GAP_SECONDS), _FRAMES_PER_GAP / (rate or DEFAULT_FRAME_RATE))


def indexed_gaps(stream: VideoStream | AudioStream) -> list[tuple[Fraction, Fraction]]:
    """Returns the begin and end in seconds of all gaps that the index of the container shows."""
    if stream.time_base is None or not stream.duration:
        return []
    longest = longest_gap(stream)
    if stream.duration * stream.time_base <= longest:
        return []
    stamps = sorted(entry.timestamp for entry in stream.index_entries)
    return [
        (before * stream.time_base, after * stream.time_base)
        for before, after in pairwise(stamps)
        if (after - before) * stream.time_base > longest
    ]


def find_frame_rate(stream: VideoStream) -> Fraction:
    """Returns the frames per second: the average in the header, gaps not counted, else FFmpeg's guess, else 25."""
    rates = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    rate = rates[0] if rates else DEFAULT_FRAME_RATE
    if stream.average_rate and stream.guessed_rate and rate > 2 * stream.guessed_rate:
        rate = Fraction(stream.guessed_rate)  # the "average" can be the resolution of the clock
    if stream.frames and stream.duration and stream.time_base and stream.guessed_rate:
        seconds = stream.duration * stream.time_base
        if seconds - stream.frames / stream.guessed_rate > longest_gap(stream):
            gaps = [after - before for before, after in indexed_gaps(stream) if not _has_audio(stream, after)]
            if gaps and sum(gaps) < seconds and len(gaps) < stream.frames:
                return ((stream.frames - len(gaps)) / (seconds - sum(gaps))).limit_denominator(100_000)
    return rate


def _has_audio(stream: VideoStream, gap_end: Fraction) -> bool:
    """Whether an audio stream of the same file goes on until a gap in the pictures ends."""
    return any(
        audio.time_base is not None
        and (audio.duration or 0) * audio.time_base >= gap_end - LONGEST_GAP_SECONDS
        and all(not before < gap_end <= after + LONGEST_GAP_SECONDS for before, after in indexed_gaps(audio))
        for audio in stream.container.streams.audio
    )
