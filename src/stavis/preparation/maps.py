"""Density and fixation maps of a prepared video."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.gaze import (
    Gaze,
    ScreenMapping,
    assign_frames,
    check_time,
    fixation_counts,
    pixels_per_degree,
    sigma_in_video_pixels,
)
from stavis.maps import density_from_fixations, to_8bit, write_fixation_map, write_map
from stavis.media import VideoInfo
from stavis.preparation.options import PrepareOptions, SamplePolicy, Source
from stavis.runtime.workers import Advance


def check_sigma(options: PrepareOptions) -> None:
    """Raises StavisError unless sigma is given once, and in degrees with the screen's size and distance."""
    if options.sigma_pixels is not None and options.sigma_degrees is not None:
        raise StavisError("the Gaussian's sigma is given in pixels and in degrees; give one of them")
    if options.sigma_pixels is None and options.sigma_degrees is None:
        raise StavisError(
            "the Gaussian's sigma for density maps is not given: `sigma_pixels`, or `sigma_degrees` (usually 1) with "
            "`screen`, `screen_size_cm` and `distance_cm`"
        )
    if options.sigma_degrees is not None and None in (options.screen_size_cm, options.distance_cm):
        raise StavisError("`sigma_degrees` needs `screen_size_cm` and `distance_cm`")


def find_sigma(options: PrepareOptions, display: ScreenMapping | None) -> float:
    """The Gaussian's sigma in pixels of the video; degrees need to know how the video was shown on the screen.

    Raises StavisError as `check_sigma`, or the screen's resolution is not known.
    """
    check_sigma(options)
    if options.sigma_pixels is not None:
        return options.sigma_pixels
    assert options.sigma_degrees is not None
    assert options.screen_size_cm is not None
    assert options.distance_cm is not None
    if display is None:
        raise StavisError("`sigma_degrees` needs `screen`, which the gaze file does not say")
    resolution = (round(display.screen_width), round(display.screen_height))
    return sigma_in_video_pixels(
        options.sigma_degrees,
        pixels_per_degree(options.distance_cm, options.screen_size_cm, resolution),
        display.scale,
    )


def choose_policy(samples: SamplePolicy, gaze: Gaze) -> SamplePolicy:
    """Decides which samples become fixations; "auto" depends on how gaze was recorded."""
    if samples == "auto":
        by_time = gaze.time_seconds is not None
        return "one-per-observer" if by_time and gaze.observers_known else "all"
    if samples == "one-per-observer" and not gaze.observers_known:
        raise StavisError("`samples=one-per-observer` needs a format that distinguishes observers")
    return samples


def gaze_by_frame(
    gaze: Gaze,
    times: npt.NDArray[np.float64],
    frame_rate: Fraction,
    shown: npt.NDArray[np.int64] | None,
    num_frames: int,
) -> tuple[Gaze, tuple[str, ...]]:
    """Assigns gaze to the written frames; returns it with warnings. Raises StavisError as `check_time`."""
    end_seconds = num_frames / float(frame_rate)
    resampled = gaze.time_seconds is not None and shown is not None
    starts = np.arange(num_frames) / float(frame_rate) if resampled else times
    inside = assign_frames(gaze, starts, end_seconds)
    warnings = (*gaze.warnings, *check_time(gaze, inside, starts, end_seconds))
    if shown is None or resampled:
        return inside, warnings
    # Gaze recorded by frame follows its frame, which is left out or shown several times.
    assert inside.frame is not None
    order = np.argsort(inside.frame, kind="stable")
    first = np.searchsorted(inside.frame[order], shown, side="left")
    last = np.searchsorted(inside.frame[order], shown, side="right")
    picked = np.concatenate([order[a:b] for a, b in zip(first, last, strict=True)])
    by_frame = replace(
        inside,
        observer=inside.observer[picked],
        x=inside.x[picked],
        y=inside.y[picked],
        frame=np.repeat(np.arange(num_frames), last - first),
        dropped={**inside.dropped, "frame_left_out": int((~np.isin(inside.frame, shown)).sum())},
    )
    return by_frame, warnings


def write_maps(
    staged: Layout,
    database: str,
    source: Source,
    fixations: Gaze,
    num_frames: int,
    info: VideoInfo,
    sigma_pixels: float,
    advance: Advance,
) -> int:
    """Writes both maps of every frame, zeros where nobody looked; returns the number of frames with fixations."""
    assert fixations.frame is not None
    order = np.argsort(fixations.frame, kind="stable")
    edges = np.searchsorted(fixations.frame[order], np.arange(num_frames + 1))
    for frame in range(num_frames):
        mine = order[edges[frame] : edges[frame + 1]]
        counts = fixation_counts(fixations.x[mine], fixations.y[mine], info.height, info.width)
        density = to_8bit(density_from_fixations(counts, sigma_pixels))
        write_fixation_map(staged.fixation_map(database, source.name, frame), counts > 0)
        write_map(staged.density_map(database, source.name, frame), density, quality=source.options.quality)
        advance(1)
    return int((np.diff(edges) > 0).sum())
