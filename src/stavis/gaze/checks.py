"""Signs that gaze was read in wrong units, on another clock or from other columns: errors and warnings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stavis.errors import StavisError, counted, some
from stavis.gaze.recording import FloatArray, Gaze, Recording, ScreenMapping

FEW = 10  # samples: with fewer there is no telling


def check_confidence(path: Path, recording: Recording) -> None:
    """Raises StavisError if there is no confidence in 0..1 to which a limit can apply."""
    if recording.confidence is None:
        raise StavisError(f"{path}: `min_confidence` is given, but the file has no column of confidence")
    highest = np.nanmax(recording.confidence, initial=0)
    if highest > 1:
        raise StavisError(f"{path}: confidence goes up to {highest:g}; `min_confidence` needs it in 0..1")


def doubt_positions(path: Path, recording: Recording, gaze: Gaze, mapping: ScreenMapping) -> Gaze:
    """Adds warnings about positions: most lie outside the picture, or many are exactly (0, 0)."""
    warnings = []
    outside, num = gaze.dropped["outside_picture"], gaze.dropped["outside_picture"] + len(gaze)
    x, y = mapping.to_video(recording.x, recording.y)
    if outside >= FEW and outside > num / 2:
        beyond = (x < 0) | (y < 0) | (x >= mapping.video_width) | (y >= mapping.video_height)
        first = np.flatnonzero(beyond)[0]
        warnings.append(
            f"{path}: {outside} of {num} samples lie outside the picture of "
            f"{mapping.video_width:g}x{mapping.video_height:g}, the first at ({x[first]:.6g}, {y[first]:.6g}): is it "
            "in pixels of a screen (`screen`), in other units, or counted from another corner (`origin`)?"
        )
    zeros = int(((recording.x == 0) & (recording.y == 0)).sum())
    if zeros >= FEW and zeros > num / 100:
        warnings.append(
            f"{path}: {zeros} of {gaze.num_read} samples are exactly (0, 0): if that marks a lost eye, leave these "
            "cells empty"
        )
    return replace(gaze, warnings=(*gaze.warnings, *warnings))


def check_time(gaze: Gaze, by_frame: Gaze, frame_starts: FloatArray, end_seconds: float) -> tuple[str, ...]:
    """Compares gaze with the time of its video.

    Args:
        gaze: Before samples outside the video's time were dropped.
        by_frame: The same gaze with frames.
        frame_starts: (F,) time in seconds at which each frame appears.
        end_seconds: Time at which the last frame disappears.

    Returns:
        Warnings: over a fifth of the samples is outside, observers have none inside, or all lie in one of many frames.

    Raises:
        StavisError: No sample lies in the video's time; or few do, nothing says that times are in seconds, and nearly
            all do in another unit.
    """
    num, num_frames = len(gaze), len(frame_starts)
    if gaze.time_seconds is None:
        assert gaze.frame is not None
        values: FloatArray = gaze.frame.astype(np.float64)
        limits = f"the video's {counted(num_frames, 'frames')}, 0 to {num_frames - 1}"
        outside = (values < 0) | (values >= num_frames)
        label, unit = "frame ", ""
    else:
        values = gaze.time_seconds
        limits = f"the video's time, 0 to {end_seconds:.6g} s"
        outside = (values < frame_starts[0]) | (values >= end_seconds)
        label, unit = "", " s"
    inside = ~outside
    warnings: list[str] = []

    def first(where: NDArray[np.bool_]) -> str:
        return f"the first at {label}{values[where][0]:.10g}{unit}"

    num_outside = int(outside.sum())
    lost = [int(i) for i in np.unique(gaze.observer) if outside[gaze.observer == i].all()]
    if num_outside == num:
        raise StavisError(
            f"no sample lies in {limits}: all {num} are outside, {first(outside)}; {_cause(gaze, values, end_seconds)}"
        )
    if lost:
        theirs = np.isin(gaze.observer, lost)
        warnings.append(
            f"no sample of {some(gaze.observers[i] for i in lost)} lies in {limits}, {first(theirs)}; is this another "
            "clock?"
        )
        outside = outside & ~theirs
    if outside.sum() > num / 5:
        problem = (
            f"{outside.sum()} of {num} samples lie outside {limits}, {first(outside)}; "
            f"{_cause(gaze, values, end_seconds)}"
        )
        if gaze.unit_assumed and outside.sum() > 0.9 * num and _unit_that_fits(values, end_seconds):
            raise StavisError(problem)
        warnings.append(problem)
    assert by_frame.frame is not None
    if len(by_frame) >= FEW and num_frames >= FEW and len(np.unique(by_frame.frame)) == 1:
        warnings.append(
            f"all {len(by_frame)} samples lie in frame {by_frame.frame[0]} of {num_frames}, the first at "
            f"{label}{values[inside][0]:.6g}{unit}: are times in another unit (`time_unit`)?"
        )
    return tuple(warnings)


def _unit_that_fits(values: FloatArray, end_seconds: float) -> str | None:
    """The unit in which values that were taken for seconds cover a good part of the video, and nearly all lie in it."""
    for unit, factor in (("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        scaled = values * factor
        inside = scaled[(scaled >= 0) & (scaled < 1.1 * end_seconds)]
        if len(inside) > 0.9 * len(values) and np.ptp(inside) > 0.25 * end_seconds:
            return unit
    return None


def _cause(gaze: Gaze, values: FloatArray, end_seconds: float) -> str:
    if gaze.time_seconds is None:
        return (
            "are these frames of a longer recording, of another frame rate, or numbered from another frame?"
        )
    unit = _unit_that_fits(values, end_seconds)
    if unit is not None:
        return f"they look like {unit}: `time_unit={unit}`"
    first = float(values.min())
    hint = f"`time_offset_seconds={-first:.10g}` would put the first one at the start of the video"
    if abs(first) > 1e8:
        # Seconds since 1970, which some trackers write in nanoseconds.
        return f"the clock does not start with the video (seconds, or nanoseconds, since 1970?); {hint}"
    return f"the clock does not start with the video; {hint}"
