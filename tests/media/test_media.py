"""Reading and writing media: generated files with all kinds of oddities, and real clips."""

import logging
import os
import re
import struct
import subprocess
import sys
import textwrap
import wave
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io.wavfile
from av.video.frame import VideoFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stavis.errors import StavisError
from stavis.media import (
    AudioReader,
    VideoWriter,
    probe,
    read_frames,
    read_wave,
    write_wave,
)
from support.videos import RATE, make_video, number_of, numbered_picture, numbers, times, tone

# Pictures


CODECS = [
    ("libx264", ".mp4", "yuv420p"),
    ("libx264", ".mkv", "yuv444p10le"),
    ("libx264", ".ts", "yuv420p"),
    ("libx264", ".h264", "yuv420p"),
    ("libx264", ".mov", "gray"),
    ("libvpx-vp9", ".webm", "yuv420p"),
    ("libvpx", ".webm", "yuv420p"),
    ("mpeg4", ".mkv", "yuv420p"),
    ("mjpeg", ".mov", "yuvj420p"),
    ("flv1", ".flv", "yuv420p"),
    ("ffv1", ".nut", "bgra"),
    ("prores_ks", ".mov", "yuv422p10le"),
    ("png", ".mov", "rgb48be"),
    ("qtrle", ".mov", "rgb24"),
    ("gif", ".gif", "rgb8"),
    ("rawvideo", ".nut", "gray16le"),
]


@pytest.mark.parametrize(("codec", "suffix", "pixel_format"), CODECS)
def test_every_container_and_pixel_format_gives_all_frames_in_order(
    tmp_path: Path, codec: str, suffix: str, pixel_format: str
) -> None:
    path = make_video(tmp_path / f"video{suffix}", 20, codec=codec, pixel_format=pixel_format)
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(20))
    assert [number_of(frame.image) for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time_seconds for frame in frames], np.arange(20) / RATE, atol=1e-3)
    assert all(frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 for frame in frames)
    # What is handed out is the caller's own: later frames do not change under it, nor by what it does to earlier ones.
    assert all(frame.image.flags.c_contiguous and frame.image.flags.writeable for frame in frames)


def test_frames_may_be_modified_while_the_video_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mov", 20, codec="qtrle", pixel_format="rgb24")
    found = []
    for frame in read_frames(path):
        found.append(number_of(frame.image))
        frame.image[:] = 77
    assert found == list(range(20))


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv420p10le", "yuv444p16le", "gray", "gray16le", "bgra", "yuvj420p"]
)
def test_pixel_formats_and_bit_depths_become_8_bit_rgb(tmp_path: Path, pixel_format: str) -> None:
    levels = [0, 1, 16, 64, 128, 200, 235, 254, 255]
    pictures = [np.full((32, 32, 3), level, np.uint8) for level in levels]
    codec = "mjpeg" if pixel_format == "yuvj420p" else "ffv1"
    path = make_video(tmp_path / "video.mkv", pictures, codec=codec, pixel_format=pixel_format)
    for frame, level in zip(read_frames(path), levels, strict=True):
        assert np.abs(frame.image.astype(int) - level).max() <= 2


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize(
    ("colorspace", "red", "blue"),  # FFmpeg's number, 2 being "not told"; the weights of red and blue in luma
    [(1, 0.2126, 0.0722), (2, 0.299, 0.114), (6, 0.299, 0.114), (9, 0.2627, 0.0593)],
)
def test_colors_follow_the_matrix_and_range_of_the_file(
    tmp_path: Path, colorspace: int, red: float, blue: float, is_full_range: bool
) -> None:
    random = np.random.default_rng(0)
    colors = np.stack(
        [random.integers(low, high, 50) for low, high in ((16, 236), (16, 241), (16, 241))], axis=1
    )
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = colorspace
        stream.codec_context.color_range = 2 if is_full_range else 1
        for y, u, v in colors:
            planes = np.concatenate([np.full((32, 32), y), np.full((8, 32), u), np.full((8, 32), v)])
            frame = VideoFrame.from_ndarray(planes.astype(np.uint8), "yuv420p")
            frame.colorspace, frame.color_range = colorspace, 2 if is_full_range else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    luma, *chroma = np.moveaxis(colors.astype(float), 1, 0)
    luma = luma / 255 if is_full_range else (luma - 16) / 219
    u, v = ((plane - 128) / (255 if is_full_range else 224) for plane in chroma)
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    expected = 255 * np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], axis=1).clip(0, 1)
    for frame, color in zip(read_frames(path), expected, strict=True):
        assert np.abs(frame.image - color).max() <= 3


@pytest.mark.parametrize(
    ("degrees", "rotation"),  # counter-clockwise as FFmpeg counts, clockwise as `VideoInfo` does
    [(0, 0), (-90, 90), (180, 180), (90, 270)],
)
def test_display_rotation_is_applied(tmp_path: Path, degrees: int, rotation: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (16, 48, 3), np.uint8)
    path = make_video(
        tmp_path / "video.mov",
        [picture] * 3,
        codec="png",
        pixel_format="rgb24",
        prepare=lambda stream: stream.set_display_rotation(degrees),
    )
    expected = np.rot90(picture, degrees // 90)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert (info.coded_height, info.coded_width) == (16, 48)
    assert info.rotation == rotation
    for frame in read_frames(path):
        np.testing.assert_array_equal(frame.image, expected)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
)
def test_display_mirroring_is_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], shown: Callable[[Any], Any]
) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    picture = np.random.default_rng(1).integers(0, 256, (16, 48, 3), np.uint8)
    path = make_video(
        tmp_path / "video.mov",
        [picture] * 2,
        codec="png",
        pixel_format="rgb24",
        prepare=lambda stream: stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30]),
    )
    for frame in read_frames(path):
        np.testing.assert_array_equal(frame.image, shown(picture))


def set_aspect_ratio(ratio: Fraction) -> Callable[[Any], None]:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = ratio

    return prepare


def test_pixels_are_made_square(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", 5, prepare=set_aspect_ratio(Fraction(3, 2)))
    info = probe(path)
    assert (info.width, info.height) == (96, 48)
    assert (info.coded_width, info.coded_height) == (64, 48)
    assert info.sample_aspect_ratio == Fraction(3, 2)
    assert numbers(path) == [0, 1, 2, 3, 4]
    assert next(read_frames(path)).image.shape == (48, 96, 3)


def test_odd_sizes_keep_their_size(tmp_path: Path) -> None:
    pictures = [numbered_picture(i, 61, 37) for i in range(4)]
    path = make_video(tmp_path / "video.webm", pictures, codec="libvpx-vp9")
    assert (probe(path).width, probe(path).height) == (61, 37)
    assert numbers(path) == [0, 1, 2, 3]


# Times


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_variable_frame_rates_keep_their_time_stamps(tmp_path: Path, suffix: str) -> None:
    given_times = [0, 0.1, 0.11, 0.5, 0.52, 1.0, 1.7, 1.8]
    path = make_video(tmp_path / f"video{suffix}", 8, times=given_times)
    np.testing.assert_allclose(times(path), given_times, atol=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_decoder_order_holds_where_time_stamps_step_back(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Packets that carry their time of decoding though the codec reorders, as find_012_talk.mp4 has them."""

    def stamp_in_order(place: int, packet: Any) -> None:
        packet.pts = place * 512
        packet.dts = packet.pts

    path = make_video(
        tmp_path / f"video{suffix}", 40, alter=stamp_in_order, options={"bf": "3", "b-pyramid": "normal"}
    )
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps)  # the file is as intended
    caplog.set_level(logging.INFO, "stavis")
    assert numbers(path) == list(range(40))
    assert "time stamps that step back or are missing were replaced" in caplog.text
    np.testing.assert_allclose(times(path), np.arange(40) / RATE, atol=1e-3)
    np.testing.assert_allclose(times(path, start_seconds=0.5), np.arange(13, 40) / RATE, atol=1e-3)


def test_times_continue_across_joined_recordings(tmp_path: Path) -> None:
    path = make_video(tmp_path / "one.ts", 20)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(path.read_bytes() * 2)
    assert numbers(joined) == [*range(20), *range(20)]
    np.testing.assert_allclose(times(joined), np.arange(40) / RATE, atol=1e-4)


def test_edit_lists_leave_out_what_they_cut(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", times=[(i - 5) / RATE for i in range(20)])
    assert numbers(path) == list(range(5, 20))
    np.testing.assert_allclose(times(path), np.arange(15) / RATE, atol=1e-4)


def test_a_late_start_is_time_0(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", times=[(i + 50) / RATE for i in range(20)])
    assert times(path)[0] == 0
    assert probe(path).start_seconds == 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".gif", ".nut"])
@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 1.0), (0.52, 1.3), (1.999, None), (2.36, 2.4), (None, 0.01)]
)
def test_excerpts_are_the_same_frames(
    tmp_path: Path, suffix: str, start: float | None, end: float | None
) -> None:
    codec, pixel_format = {".gif": ("gif", "rgb8"), ".nut": ("ffv1", "yuv420p")}.get(
        suffix, ("libx264", "yuv420p")
    )
    path = make_video(
        tmp_path / f"video{suffix}", 60, codec=codec, pixel_format=pixel_format, options={"g": "12"}
    )
    whole = list(read_frames(path))
    expected = [
        frame
        for frame in whole
        if (start or 0) <= frame.time_seconds and (end is None or frame.time_seconds < end)
    ]
    excerpt = list(read_frames(path, start_seconds=start, end_seconds=end))
    assert expected
    assert [frame.index for frame in excerpt] == list(range(len(expected)))
    assert [frame.time_seconds for frame in excerpt] == [frame.time_seconds for frame in expected]
    for frame, other in zip(excerpt, expected, strict=True):
        np.testing.assert_array_equal(frame.image, other.image)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (-1, None, "excerpt from -1 s to inf s is asked for; allowed is 0 <= start < end"),
        (1, 1, "excerpt from 1 s to 1 s"),
        (5, None, r"has no frame from 5 s on; its last is shown at 0\.760 s"),
        (0.41, 0.43, r"has no frame from 0\.41 s to 0\.43 s"),
    ],
)
def test_empty_excerpts_are_errors(tmp_path: Path, start: float, end: float | None, message: str) -> None:
    path = make_video(tmp_path / "video.mp4", 20)
    folder = tmp_path / "folder"
    folder.mkdir()
    for frame in read_frames(path):
        Image.fromarray(frame.image).save(folder / f"img_{frame.index:05d}.jpg")
    for source in (path, folder):
        with pytest.raises(StavisError, match=message):
            list(read_frames(source, frame_rate=RATE, start_seconds=start, end_seconds=end))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    pictures = [numbered_picture(i % 64, 640, 360) for i in range(250)]
    part = make_video(
        tmp_path / "part.ts", pictures, sounds=[("aac", tone(10, 48000, num_channels=2), 48000, 0)]
    )
    (tmp_path / "long.ts").write_bytes(part.read_bytes() * 20)
    script = """
        import resource, sys
        from stavis.media import AudioReader, read_frames
        num_frames = 0
        with AudioReader(sys.argv[1]) as sound:
            for frame in read_frames(sys.argv[1]):
                center = round(frame.time_seconds * 22050)
                sound.read(center - 7056, center + 7056)
                num_frames += 1
        print(num_frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    peaks = []
    for path, num_frames in ((part, 250), (tmp_path / "long.ts", 5000)):
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(run.stdout.split()[0]) == num_frames
        peaks.append(int(run.stdout.split()[1]) / 1024)
    assert peaks[1] < peaks[0] + 20  # MB


# Streams


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "song.mp4",
        1,
        codec="mjpeg",
        pixel_format="yuvj420p",
        prepare=lambda stream: setattr(stream, "disposition", av.stream.Disposition.attached_pic),
        sounds=[("aac", tone(1, 44100), 44100, 0)],
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].disposition & av.stream.Disposition.attached_pic
    with pytest.raises(StavisError, match="has no video stream"):
        probe(path)
    assert read_wave(path)[1] == 44100


def test_audio_streams_are_chosen_by_index(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "video.mkv",
        5,
        sounds=[("pcm_s16le", tone(1, 8000, 100), 8000, 0), ("pcm_s16le", tone(1, 16000, 1000), 16000, 0)],
    )
    for index, rate in enumerate([8000, 16000]):
        info = probe(path, audio_stream=index).audio
        assert info is not None
        assert (info.stream, info.num_streams, info.sample_rate, info.num_channels) == (index, 2, rate, 1)
        with AudioReader(path, stream=index, sample_rate=None) as reader:
            assert reader.sample_rate == rate
            spectrum = np.abs(np.fft.rfft(reader.read(0, rate)))
            assert spectrum.argmax() == [100, 1000][index]
    message = (
        r"has no audio stream 2; its audio streams are 0: pcm_s16le 8000 Hz mono, 1: pcm_s16le 16000 Hz mono"
    )
    for call in (lambda: probe(path, audio_stream=2), lambda: AudioReader(path, stream=2)):
        with pytest.raises(StavisError, match=message):
            call()
    with pytest.raises(StavisError, match="has no audio stream -1"):
        AudioReader(path, stream=-1)


# Sound


def test_the_default_audio_stream_is_taken(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "video.mkv",
        5,
        options={"bf": "0"},
        sounds=[("pcm_s16le", tone(1, 8000), 8000, 0), ("pcm_s16le", tone(1, 16000), 16000, 0)],
    )
    copy = tmp_path / "copy.mkv"
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        streams[0].disposition = streams[2].disposition = av.stream.Disposition.default
        streams[1].disposition = av.stream.Disposition(0)
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    info = probe(copy).audio
    assert info is not None
    assert (info.stream, info.sample_rate) == (1, 16000)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("pcm_s16le", ".mkv"), ("aac", ".mp4"), ("aac", ".ts"), ("flac", ".mkv")]
)
@pytest.mark.parametrize(("video_begin", "audio_begin"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.2, 0.12)])
def test_sample_0_is_the_instant_of_the_first_frame(
    tmp_path: Path, codec: str, suffix: str, video_begin: float, audio_begin: float
) -> None:
    samples = np.zeros((1, 96000), np.float32)
    samples[0, 24000:28800] = 0.8
    path = make_video(
        tmp_path / f"video{suffix}",
        50,
        times=[video_begin + i / RATE for i in range(50)],
        sounds=[(codec, samples, 48000, audio_begin)],
    )
    onset = 0.5 + audio_begin - video_begin
    for rate in (22050, None):
        with AudioReader(path, sample_rate=rate) as reader:
            found = np.flatnonzero(np.abs(reader.read(0, 3 * reader.sample_rate)) > 0.4) / reader.sample_rate
        # mp4 keeps offsets of sound in milliseconds.
        np.testing.assert_allclose(found[[0, -1]], [onset, onset + 0.1], atol=1.1e-3)


def test_gaps_between_time_stamps_are_silent(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "video.mkv",
        50,
        options={"bf": "0"},
        sounds=[("pcm_s16le", np.full((1, 10240), 0.5, np.float32), 8000, 0)],
    )
    gapped = tmp_path / "gapped.mkv"
    with av.open(str(path)) as source, av.open(str(gapped), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size == 0 or (
                packet.stream.type == "audio" and 0.3 < packet.pts * packet.time_base < 0.9
            ):
                continue
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    with AudioReader(gapped, sample_rate=None) as reader:
        samples = reader.read(0, 10240)
    kept = [place for place in range(0, 10240, 1024) if not 0.3 < place / 8000 < 0.9]
    expected = np.zeros(10240, np.float32)
    for place in kept:
        expected[place : place + 1024] = 0.5
    np.testing.assert_allclose(samples, expected, atol=1e-4)


def test_two_channels_give_their_mean_and_surround_its_downmix(tmp_path: Path) -> None:
    left, right = tone(0.5, 44100, 300)[0], tone(0.5, 44100, 500)[0] / 3
    stereo = np.stack([left, right])
    path = make_video(tmp_path / "stereo.mov", 5, sounds=[("pcm_s16le", stereo, 44100, 0)])
    with AudioReader(path, sample_rate=None) as reader:
        quantized = np.round(stereo * 32768).clip(-32768, 32767) / 32768
        np.testing.assert_allclose(reader.read(0, 22050), quantized.mean(axis=0), atol=2 / 32768)
    weights = np.array([0.5**0.5, 0.5**0.5, 1, 0, 0.5, 0.5])  # FL FR FC LFE BL BR
    for channel, weight in enumerate(weights / weights.sum()):
        surround = np.zeros((6, 4800), np.float32)
        surround[channel] = 0.5
        path = make_video(tmp_path / "surround.mov", 5, sounds=[("pcm_s16le", surround, 48000, 0)])
        with AudioReader(path, sample_rate=None) as reader:
            np.testing.assert_allclose(reader.read(100, 200), 0.5 * weight, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
def test_resampling_neither_shifts_nor_drifts(tmp_path: Path, rate: int) -> None:
    write_wave(tmp_path / "tone.wav", tone(3, rate)[0], rate)
    with AudioReader(tmp_path / "tone.wav") as reader:
        assert reader.num_samples == 3 * 22050
        samples = reader.read(0, 3 * 22050 + 100)
    np.testing.assert_allclose(samples[200:-300], tone(3, 22050)[0][200:-200], atol=1e-4)
    assert not samples[-100:].any()


@pytest.fixture(scope="module")
def sounds(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[Path, int | None, npt.NDArray[np.float32]]]:
    """Files with sound, a rate to read at, and all of the sound at once, with a second of silence on either side."""
    folder = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(0)
    noise = random.uniform(-0.5, 0.5, (2, 3 * 48000)).astype(np.float32)
    video = make_video(folder / "video.mp4", 75, sounds=[("aac", noise, 48000, 0.3)])
    write_wave(folder / "wave.wav", noise[0], 16000)
    found = []
    for path, rate in [
        (video, 22050),
        (video, None),
        (folder / "wave.wav", 22050),
        (folder / "wave.wav", None),
    ]:
        with AudioReader(path, sample_rate=rate) as reader:
            found.append((path, rate, reader.read(-reader.sample_rate, 11 * reader.sample_rate)))
    return found


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_slices_of_the_whole_sound(
    sounds: list[tuple[Path, int | None, npt.NDArray[np.float32]]], data: st.DataObject
) -> None:
    path, rate, whole = data.draw(st.sampled_from(sounds))
    with AudioReader(path, sample_rate=rate) as reader:
        start = -reader.sample_rate
        steps = data.draw(
            st.lists(st.tuples(st.integers(0, 30000), st.integers(0, 40000)), min_size=1, max_size=8)
        )
        for step, length in steps:
            start += step
            offset = start + reader.sample_rate
            expected = whole[offset : offset + length]
            samples = reader.read(start, start + length)
            assert samples.dtype == np.float32
            np.testing.assert_array_equal(samples[: len(expected)], expected)


@given(start=st.floats(0, 10), which=st.integers(0, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_excerpts_samples_are_those_of_the_whole_sound(
    sounds: list[tuple[Path, int | None, npt.NDArray[np.float32]]], start: float, which: int
) -> None:
    path, rate, whole = sounds[which]
    with AudioReader(path, sample_rate=rate, start_seconds=start) as reader:
        offset = round(start * reader.sample_rate) + reader.sample_rate
        expected = whole[offset : offset + 5000]
        samples = reader.read(0, len(expected))
    # A resampler that begins elsewhere rounds otherwise.
    np.testing.assert_allclose(samples, expected, atol=1e-5)


def test_sliding_windows_hold_no_more_than_they_need(tmp_path: Path) -> None:
    write_wave(tmp_path / "long.wav", np.zeros(22050 * 120, np.float32), 22050)
    with AudioReader(tmp_path / "long.wav") as reader:
        largest = 0
        for start in range(0, 22050 * 119, 7350):
            reader.read(start, start + 22050)
            largest = max(largest, len(reader._buffer))
    assert largest < 3 * 22050


def test_windows_must_not_step_back(tmp_path: Path) -> None:
    write_wave(tmp_path / "wave.wav", np.zeros(100, np.float32), 8000)
    with AudioReader(tmp_path / "wave.wav") as reader:
        reader.read(50, 60)
        with pytest.raises(ValueError, match="from 49 on are requested after those from 50 on"):
            reader.read(49, 60)
        with pytest.raises(ValueError, match="the end must not be before the start"):
            reader.read(60, 59)


def test_a_video_without_sound_is_silent(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", 5)
    assert probe(path).audio is None
    with AudioReader(path, sample_rate=None) as reader:
        assert not reader.has_sound
        assert (reader.sample_rate, reader.num_samples) == (22050, 0)
        np.testing.assert_array_equal(reader.read(-5, 100), np.zeros(105, np.float32))


def test_audio_is_silent_after_its_end(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "video.mov", 50, sounds=[("pcm_s16le", np.full((1, 8000), 0.5, np.float32), 8000, 0)]
    )
    with AudioReader(path, sample_rate=None) as reader:
        assert reader.num_samples == 8000
        samples = reader.read(0, 16000)
    np.testing.assert_allclose(samples[:8000], 0.5)
    assert not samples[8000:].any()


def test_damaged_sound_is_silent_and_keeps_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path / "video.mp4", 50, sounds=[("aac", tone(2, 44100), 44100, 0)])
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size][20:28]
    data = bytearray(path.read_bytes())
    for position, size in places:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    with AudioReader(path, sample_rate=None) as reader:
        samples = reader.read(0, 88200)
    assert "in the audio 8 damaged packets were skipped and replaced by silence" in caplog.text
    np.testing.assert_allclose(samples[2000:18000], tone(2, 44100)[0][2000:18000], atol=0.02)
    np.testing.assert_allclose(samples[32000:86000], tone(2, 44100)[0][32000:86000], atol=0.02)


# WAV files


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("kind", ["uint8", "int16", "int24", "int32", "float32"])
def test_wav_files_are_read_bit_for_bit(tmp_path: Path, kind: str, num_channels: int) -> None:
    random = np.random.default_rng(3)
    path = tmp_path / "wave.wav"
    if kind == "float32":
        values = random.uniform(-1, 1, (5000, num_channels)).astype(np.float32)
        scipy.io.wavfile.write(path, 22050, values)
        expected = values
    else:
        bits = int(kind.lstrip("uint"))
        half = 1 << bits - 1
        values = random.integers(-half, half, (5000, num_channels))
        values[:2, 0] = -half, half - 1
        raw = (
            (values + half if bits == 8 else values)
            .astype("<i4")
            .view(np.uint8)
            .reshape(-1, 4)[:, : bits // 8]
        )
        with wave.open(str(path), "wb") as file:
            file.setnchannels(num_channels)
            file.setsampwidth(bits // 8)
            file.setframerate(22050)
            file.writeframes(raw.tobytes())
        rate, read_by_scipy = scipy.io.wavfile.read(path)
        assert rate == 22050
        if bits != 24:
            np.testing.assert_array_equal(
                read_by_scipy.reshape(values.shape).astype(int) - (half if bits == 8 else 0), values
            )
        expected = values / half
    samples, sample_rate = read_wave(path)
    assert sample_rate == 22050
    assert samples.dtype == np.float32
    mono = expected.astype(np.float32).mean(axis=1, dtype=np.float32)
    np.testing.assert_array_equal(samples, mono)
    with AudioReader(path, sample_rate=None) as reader:
        assert reader.num_samples == 5000
        np.testing.assert_array_equal(reader.read(0, 5000), mono)


@given(values=st.lists(st.integers(-32768, 32767), min_size=1, max_size=300))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_wav_files_read_back_equal(tmp_path: Path, values: list[int]) -> None:
    samples = np.array(values, np.float32) / 32768
    write_wave(tmp_path / "wave.wav", samples, 22050)
    np.testing.assert_array_equal(scipy.io.wavfile.read(tmp_path / "wave.wav")[1], np.array(values, np.int16))
    np.testing.assert_array_equal(read_wave(tmp_path / "wave.wav")[0], samples)


def test_written_wav_files_are_clipped(tmp_path: Path) -> None:
    write_wave(tmp_path / "wave.wav", np.array([-7, -1, 0, 1, 7], np.float32), 8000)
    np.testing.assert_array_equal(
        read_wave(tmp_path / "wave.wav")[0] * 32768, [-32768, -32768, 0, 32767, 32767]
    )
    with pytest.raises(ValueError, match="values that are nan"):
        write_wave(tmp_path / "wave.wav", np.full(5, np.nan, np.float32), 8000)
    with pytest.raises(ValueError, match="one dimension"):
        write_wave(tmp_path / "wave.wav", np.zeros((2, 5), np.float32), 8000)
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(StavisError, match=r"wave\.wav cannot be written: "):
        write_wave(blocker / "wave.wav", np.zeros(5, np.float32), 8000)


def test_read_wave_requires_audio(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", 3)
    with pytest.raises(StavisError, match="has no audio that can be decoded"):
        read_wave(path)


# Image folders


def make_folder(folder: Path, numbers: Iterable[int], pattern: str = "img_{:05d}.jpg") -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(numbered_picture(number % 64)).save(folder / pattern.format(number), quality=95)
    return folder


@pytest.mark.parametrize(
    "pattern", ["img_{:05d}.jpg", "{}.png", "frame-{:03d}.left.bmp", "Shot 3 {}.JPG", "v2_{:d}.jpeg"]
)
def test_image_folders_are_read_in_the_order_of_their_numbers(tmp_path: Path, pattern: str) -> None:
    folder = make_folder(tmp_path / "folder", range(1, 13), pattern)
    (folder / "cover.png").write_bytes(b"no image of the sequence")
    (folder / "notes.txt").write_text("")
    assert numbers(folder, frame_rate=10) == list(range(1, 13))
    assert times(folder, frame_rate=10) == [i / 10 for i in range(12)]
    info = probe(folder, frame_rate=10)
    assert (info.width, info.height, info.num_frames, info.duration_seconds) == (64, 48, 12, 1.2)
    assert info.frame_rate == 10
    assert info.audio is None


def test_published_frames_are_decoded_as_pillow_does(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", range(1, 4))
    for frame, path in zip(read_frames(folder, frame_rate=25), sorted(folder.iterdir()), strict=True):
        np.testing.assert_array_equal(frame.image, np.asarray(Image.open(path).convert("RGB")))


def test_numbers_may_step_and_missing_ones_keep_their_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert times(make_folder(tmp_path / "step", range(10, 60, 10)), frame_rate=5) == [0, 0.2, 0.4, 0.6, 0.8]
    assert not caplog.text
    gapped = make_folder(tmp_path / "gap", [1, 2, 5, 6])
    assert times(gapped, frame_rate=5) == [0, 0.2, 0.8, 1.0]
    assert "frame numbers are missing: 2, the first is 3" in caplog.text
    assert probe(gapped, frame_rate=5).num_frames == 4
    assert times(make_folder(tmp_path / "one", [7]), frame_rate=5) == [0]


def test_folders_without_a_rate_get_25_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(tmp_path / "folder", range(3))
    assert times(folder) == [0, 0.04, 0.08]
    assert "no frame rate is given for this image folder; 25 is used" in caplog.text
    for rate in (0, -3, float("nan"), float("inf")):
        with pytest.raises(StavisError, match="it must be above 0"):
            probe(folder, frame_rate=rate)
    assert probe(folder, frame_rate=29.97).frame_rate == Fraction(30000, 1001)
    assert probe(folder, frame_rate=23.976).frame_rate == Fraction(24000, 1001)
    assert probe(folder, frame_rate=12.5).frame_rate == Fraction(25, 2)


def test_excerpts_of_folders(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", range(30))
    assert numbers(folder, frame_rate=10, start_seconds=0.3, end_seconds=0.7) == [3, 4, 5, 6]
    frames = list(read_frames(folder, frame_rate=10, start_seconds=2.8))
    assert [(frame.index, frame.time_seconds) for frame in frames] == [(0, 2.8), (1, 2.9)]


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_the_wav_file_of_a_folder_is_its_audio(tmp_path: Path, place: str) -> None:
    folder = make_folder(tmp_path / "folder", range(3))
    path = folder / "any.wav" if place == "inside" else tmp_path / "folder.wav"
    write_wave(path, np.full(1000, 0.5, np.float32), 8000)
    info = probe(folder, frame_rate=25).audio
    assert info is not None
    assert (info.path, info.sample_rate) == (path, 8000)
    with AudioReader(folder, sample_rate=None) as reader:
        assert (reader.has_sound, reader.sample_rate, reader.num_samples) == (True, 8000, 1000)
        np.testing.assert_array_equal(reader.read(0, 1001), [0.5] * 1000 + [0])


def test_folders_without_a_wav_file_are_silent(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", range(3))
    with AudioReader(folder) as reader:
        assert not reader.has_sound
        assert not reader.read(0, 100).any()
    with pytest.raises(StavisError, match="has no WAV file, so no audio stream 0"):
        AudioReader(folder, stream=0)
    write_wave(folder / "a.wav", np.zeros(5, np.float32), 8000)
    write_wave(folder / "b.wav", np.zeros(5, np.float32), 8000)
    with pytest.raises(StavisError, match=r"several WAV files: a\.wav, b\.wav; one is allowed"):
        AudioReader(folder)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 77, 77), ("RGBA", (9, 8, 7, 0), (9, 8, 7)), ("P", 3, None), ("I;16", 0xABCD, 0xAB), ("1", 1, 255)],
)
def test_images_of_any_mode_become_8_bit_rgb(tmp_path: Path, mode: str, value: Any, expected: Any) -> None:
    image = Image.new(mode, (6, 4), value)
    if mode == "P":
        image.putpalette(list(range(30)))
        expected = (9, 10, 11)
    image.save(tmp_path / "1.png")
    (frame,) = read_frames(tmp_path, frame_rate=25)
    assert frame.image.shape == (4, 6, 3)
    assert (frame.image == expected).all()


def test_images_are_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "1.png", exif=exif)
    assert (probe(tmp_path, frame_rate=25).width, probe(tmp_path, frame_rate=25).height) == (4, 6)
    (frame,) = read_frames(tmp_path, frame_rate=25)
    np.testing.assert_array_equal(frame.image, np.rot90(np.asarray(image), -1))


def test_bad_folders_are_errors(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {empty: r"is a folder with no images; numbered images such as img_00001\.jpg are allowed"}
    unnumbered = tmp_path / "unnumbered"
    unnumbered.mkdir()
    Image.new("RGB", (4, 4)).save(unnumbered / "cover.png")
    cases[unnumbered] = "is a folder with images, but none with a number in its name"
    two = make_folder(tmp_path / "two", range(3))
    Image.new("RGB", (4, 4)).save(two / "other_1.jpg")
    cases[two] = r"has images of several sequences: img_#\.jpg, other_#\.jpg; one is allowed"
    twice = make_folder(tmp_path / "twice", range(3))
    Image.new("RGB", (4, 4)).save(twice / "img_2.jpg")
    cases[twice] = r"has two images of number 2: img_00002\.jpg and img_2\.jpg"
    sizes = make_folder(tmp_path / "sizes", range(2))
    Image.new("RGB", (4, 4)).save(sizes / "img_00002.jpg")
    cases[sizes] = r"img_00002\.jpg is 4x4, but the first image is 64x48"
    damaged = make_folder(tmp_path / "damaged", range(2))
    (damaged / "img_00001.jpg").write_bytes((damaged / "img_00001.jpg").read_bytes()[:800])
    cases[damaged] = r"img_00001\.jpg cannot be decoded: "
    no_image = make_folder(tmp_path / "no_image", range(1))
    (no_image / "img_00001.jpg").write_text("text")
    cases[no_image] = r"img_00001\.jpg is not an image that can be read"
    for folder, message in cases.items():
        with pytest.raises(StavisError, match=message):
            list(read_frames(folder, frame_rate=25))


# Bad input


def absurd_gif(path: Path) -> Path:
    make_video(path, 2, codec="gif", pixel_format="rgb8")
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 12336, 12336)
    path.write_bytes(data)
    return path


def test_bad_files_are_one_line_errors(tmp_path: Path) -> None:
    def file(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    random = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    sound = tmp_path / "sound.wav"
    write_wave(sound, np.zeros(100, np.float32), 8000)
    whole = make_video(tmp_path / "whole.mp4", 20).read_bytes()
    avi = bytearray(make_video(tmp_path / "whole.avi", 5, codec="mpeg4").read_bytes())
    avi[avi.index(b"movi") + 4 :] = b"idx1\0\0\0\0"
    cases = {
        tmp_path / "missing.mp4": "missing.mp4 does not exist",
        file("empty.mp4", b""): r"is empty \(0 bytes\)",
        file("random.mp4", random): "is not a video or audio file that FFmpeg can read|has no video stream",
        file("text.txt", b"A line.\nAnother line.\n" * 50): "is text, not a video|not a video or audio file",
        file(
            "text.mp4", b"A line.\nAnother line.\n" * 50
        ): "is not a video or audio file that FFmpeg can read",
        file("headless.mp4", whole[: len(whole) // 2]): "is not a video or audio file that FFmpeg can read",
        file("frameless.avi", bytes(avi)): "no frame in it can be decoded",
        sound: r"has no video stream \(it has: audio\)",
        file(
            "absurd.y4m", b"YUV4MPEG2 W12336 H12336 F25:1 C420\nFRAME\n" + bytes(1000)
        ): "announces frames of 12336x12336",
        absurd_gif(tmp_path / "absurd.gif"): r"announces frames of 12336x12336; at most 67108864 pixels",
        Path(os.devnull): "is neither a file nor a folder",
    }
    for path, message in cases.items():
        for call in (lambda path=path: probe(path), lambda path=path: list(read_frames(path))):
            with pytest.raises(StavisError, match=message) as caught:
                call()
            assert "\n" not in str(caught.value)
            assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_files_are_errors(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", 3)
    path.chmod(0)
    with pytest.raises(StavisError, match="cannot be read: Permission denied"):
        probe(path)


def test_absurd_images_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "img_1.ppm").write_bytes(b"P6 12336 12336 255\n")
    for call in (lambda: probe(tmp_path, frame_rate=25), lambda: list(read_frames(tmp_path, frame_rate=25))):
        with pytest.raises(StavisError, match="announces frames of 12336x12336"):
            call()


def test_absurd_pixel_shapes_are_refused(tmp_path: Path) -> None:
    pictures = [np.zeros((480, 640, 3), np.uint8)]
    path = make_video(tmp_path / "video.mkv", pictures, prepare=set_aspect_ratio(Fraction(255)))
    with pytest.raises(StavisError, match=r"announces frames of 163200x480"):
        probe(path)


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".mp4", "libx264"), (".flv", "flv1")])
def test_truncated_videos_are_used_with_a_warning(
    tmp_path: Path, suffix: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"movflags": "+faststart"} if suffix == ".mp4" else None
    pictures = [numbered_picture(i % 64) for i in range(250)]
    path = make_video(tmp_path / f"video{suffix}", pictures, codec=codec, container_options=options)
    assert len(numbers(path)) == 250
    assert not caplog.text
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found = numbers(path)
    assert 80 < len(found) < 200
    # Of the last packet there may be but a part.
    assert found[:-1] == [i % 64 for i in range(len(found) - 1)]
    assert re.search(
        rf"{len(found)} (frames|of the 250 frames that its header announces) could be decoded", caplog.text
    )
    assert "before the end that its header announces" in caplog.text


def test_damaged_videos_are_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "video.mp4", 40, options={"g": "10", "bf": "0"})
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    position, size = places[10]
    data[position : position + size] = b"\0\0\0\1" + b"\xff" * (size - 4)
    path.write_bytes(data)
    found = [(number_of(frame.image), round(frame.time_seconds * RATE)) for frame in read_frames(path)]
    assert "of the 40 frames that its header announces could be decoded; " in caplog.text
    assert re.search(r"damaged packets? (was|were) skipped", caplog.text)
    # The next key frame brings everything back, at its own time.
    assert [(i, i) for i in range(20, 40)] == [pair for pair in found if pair[1] >= 20]
    assert [(i, i) for i in range(10)] == found[:10]


def test_file_names_are_not_read_as_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "video.mp4", 3).rename("concat:a%d.mp4")
    assert numbers(Path("concat:a%d.mp4")) == [0, 1, 2]


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_raise_only_stavis_errors(
    damaged_sources: list[bytes], tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(damaged_sources)))
    kept = data.draw(st.integers(len(content) // 2, len(content)))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, kept - 1), st.integers(0, 255)), max_size=20)
    ):
        content[place] = value
    path = tmp_path / "damaged"
    path.write_bytes(content[:kept])
    try:
        info = probe(path)
        for frame in read_frames(path, start_seconds=data.draw(st.sampled_from([None, 0.3]))):
            assert frame.image.shape == (info.height, info.width, 3)
        with AudioReader(path) as reader:
            assert np.abs(reader.read(0, 40000)).max() <= 1
    except StavisError:
        pass


@pytest.fixture(scope="module")
def damaged_sources(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("sources")
    sound = tone(1, 16000)
    return [
        make_video(folder / "a.mp4", 20, sounds=[("aac", sound, 16000, 0)]).read_bytes(),
        make_video(folder / "a.mkv", 20, sounds=[("flac", sound, 16000, 0)]).read_bytes(),
        make_video(folder / "a.ts", 20, sounds=[("aac", sound, 16000, 0)]).read_bytes(),
        make_video(folder / "a.gif", 20, codec="gif", pixel_format="rgb8").read_bytes(),
    ]


# Writing


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001), Fraction(60), 29.97, 12.5])
def test_written_videos_have_the_same_frames_at_the_same_rate(
    tmp_path: Path, suffix: str, rate: Fraction | float
) -> None:
    path = tmp_path / f"video{suffix}"
    with VideoWriter(path, width=64, height=48, frame_rate=rate) as writer:
        for i in range(30):
            writer.write(numbered_picture(i))
    assert writer.num_frames == 30
    info = probe(path)
    exact = Fraction(30000, 1001) if rate == 29.97 else Fraction(rate)
    assert (info.width, info.height) == (64, 48)
    assert abs(float(info.frame_rate / exact) - 1) < 1e-5
    assert info.num_frames == 30
    assert info.audio is None
    assert numbers(path) == list(range(30))
    np.testing.assert_allclose(times(path), np.arange(30) / float(exact), atol=6e-4)
    if suffix in (".mp4", ".mov"):
        assert info.frame_rate == exact
        np.testing.assert_allclose(times(path), np.arange(30) / float(exact), atol=1e-9)
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("suffix", "tolerance"), [(".mp4", 1e-5), (".mkv", 6e-4), (".webm", 6e-4)])
def test_written_time_stamps_are_kept(tmp_path: Path, suffix: str, tolerance: float) -> None:
    given_times = np.array([0, 0.1, 0.11, 0.5, 0.52, 1.0, 1.7, 1.8])
    path = tmp_path / f"video{suffix}"
    for begin in (0, 5.04):
        with VideoWriter(path, width=64, height=48, frame_rate=25) as writer:
            for i, time in enumerate(given_times):
                writer.write(numbered_picture(i), begin + time)
        assert numbers(path) == list(range(8))
        np.testing.assert_allclose(times(path), given_times, atol=tolerance)


def test_equal_time_stamps_are_moved_apart(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, width=64, height=48, frame_rate=25) as writer:
        for i, time in enumerate([0, 0.04, 0.04, 0.03, 0.12]):
            writer.write(numbered_picture(i), time)
    assert numbers(path) == list(range(5))
    np.testing.assert_allclose(times(path), [0, 0.04, 0.04, 0.04, 0.12], atol=1e-4)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_gray_pictures_keep_their_levels(tmp_path: Path, suffix: str) -> None:
    y, x = np.mgrid[:90, :160]
    maps = [
        (255 * np.exp(-((x - 30 - 4 * i) ** 2 + (y - 45) ** 2) / 2 / 15**2)).astype(np.uint8)
        for i in range(20)
    ]
    path = tmp_path / f"maps{suffix}"
    with VideoWriter(path, width=160, height=90, frame_rate=25) as writer:
        for saliency in maps:
            writer.write(saliency)
    for frame, saliency in zip(read_frames(path), maps, strict=True):
        assert (frame.image == frame.image[..., :1]).all()
        error = np.abs(frame.image[..., 0].astype(int) - saliency)
        assert error.max() <= 6
        assert error.mean() <= 1


def test_every_gray_level_and_color_comes_back(tmp_path: Path) -> None:
    colors = [(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51)]
    with VideoWriter(tmp_path / "gray.mp4", width=32, height=32, frame_rate=25) as writer:
        for level in range(256):
            writer.write(np.full((32, 32), level, np.uint8))
    with VideoWriter(tmp_path / "color.mp4", width=32, height=32, frame_rate=25) as writer:
        for color in colors:
            writer.write(np.full((32, 32, 3), color, np.uint8))
    for frame in read_frames(tmp_path / "gray.mp4"):
        assert np.abs(frame.image.astype(int) - frame.index).max() <= 1
    errors = [
        np.abs(frame.image.astype(int) - colors[frame.index]) for frame in read_frames(tmp_path / "color.mp4")
    ]
    assert np.max(errors) <= 6
    assert np.mean(errors) <= 1.5


@pytest.mark.parametrize(("width", "height"), [(61, 37), (1, 1), (2, 1), (64, 37)])
def test_odd_sizes_are_written(tmp_path: Path, width: int, height: int) -> None:
    picture = np.full((height, width, 3), (200, 100, 50), np.uint8)
    for pixel_format in ("yuv420p", "yuv444p"):
        for image in (picture, picture[..., 0]):
            path = tmp_path / "video.mp4"
            with VideoWriter(
                path, width=width, height=height, frame_rate=25, pixel_format=pixel_format
            ) as writer:
                for _ in range(3):
                    writer.write(image)
            (first, *others) = read_frames(path)
            assert len(others) == 2
            even = (height + height % 2, width + width % 2) if pixel_format == "yuv420p" else (height, width)
            assert first.image.shape == (*even, 3)
            assert np.abs(first.image.astype(int) - image[0, 0]).max() <= 4


def onset(path: Path) -> float:
    with AudioReader(path, sample_rate=None) as reader:
        samples = np.abs(reader.read(-reader.sample_rate, 5 * reader.sample_rate))
        return float(np.flatnonzero(samples > 0.3)[0] / reader.sample_rate - 1)


# Copied, except PCM and FLAC to .mp4 and all to .webm.
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("aac", ".mp4"), ("pcm_s16le", ".mov"), ("aac", ".mkv"), ("flac", ".mkv"), ("aac", ".webm")],
)
@pytest.mark.parametrize(("video_begin", "audio_begin"), [(0.0, 0.0), (0.3, 0.1), (0.0, 0.2)])
def test_audio_stays_in_sync_with_the_frames(
    tmp_path: Path, suffix: str, codec: str, video_begin: float, audio_begin: float
) -> None:
    sound = np.zeros((2, 3 * 44100), np.float32)
    sound[:, 44100:] = tone(2, 44100, 1000, 2)
    source = make_video(
        tmp_path / "source.mkv",
        50,
        times=[video_begin + i / RATE for i in range(50)],
        sounds=[(codec, sound, 44100, audio_begin)],
    )
    path = tmp_path / f"video{suffix}"
    with VideoWriter(path, width=64, height=48, frame_rate=RATE, audio_from=source) as writer:
        for frame in read_frames(source):
            writer.write(frame.image, frame.time_seconds)
    assert onset(source) == pytest.approx(1 + audio_begin - video_begin, abs=2e-3)
    # Copied sound is as exact as the container's time stamps, Opus looks ahead by some milliseconds.
    assert onset(path) == pytest.approx(onset(source), abs=5e-3)
    info = probe(path)
    assert info.audio is not None
    assert info.audio.num_channels == 2
    assert numbers(path) == list(range(50))
    # The sound, which outlasts the picture by a second, ends with it.
    with AudioReader(path, sample_rate=None) as reader:
        samples = reader.read(0, 5 * reader.sample_rate)
        # Copied sound ends with the packet that the picture's end lies in; FLAC's are the longest.
        assert np.flatnonzero(np.abs(samples) > 0.1)[-1] / reader.sample_rate == pytest.approx(2, abs=0.105)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_audio_of_an_excerpt_stays_in_sync(tmp_path: Path, suffix: str) -> None:
    sound = np.zeros((1, 4 * 48000), np.float32)
    sound[:, 2 * 48000 :] = tone(2, 48000, 1000)
    source = make_video(tmp_path / "source.mp4", 100, options={"g": "12"}, sounds=[("aac", sound, 48000, 0)])
    path = tmp_path / f"video{suffix}"
    with VideoWriter(path, width=64, height=48, frame_rate=RATE, audio_from=source) as writer:
        for frame in read_frames(source, start_seconds=1.5, end_seconds=3.0):
            writer.write(frame.image, frame.time_seconds)
    first = next(read_frames(source, start_seconds=1.5)).time_seconds
    assert numbers(path) == [i % 64 for i in range(38, 75)]
    assert onset(path) == pytest.approx(2 - first, abs=5e-3)


def test_the_audio_of_an_image_folder_goes_into_the_video(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", range(20))
    sound = np.zeros(16000, np.float32)
    sound[4000:] = tone(0.75, 16000, 1000)[0]
    write_wave(folder / "sound.wav", sound, 16000)
    path = tmp_path / "video.mp4"
    with VideoWriter(path, width=64, height=48, frame_rate=25, audio_from=folder) as writer:
        for frame in read_frames(folder, frame_rate=25):
            writer.write(frame.image)
    assert onset(path) == pytest.approx(0.25, abs=2e-3)


def test_a_silent_source_gives_a_silent_video(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mp4", 3)
    with VideoWriter(tmp_path / "video.mp4", width=64, height=48, frame_rate=25, audio_from=source) as writer:
        writer.write(numbered_picture(0))
    assert probe(tmp_path / "video.mp4").audio is None


def test_a_failed_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_text("before")

    def interrupted() -> None:
        with VideoWriter(path, width=64, height=48, frame_rate=25) as writer:
            writer.write(numbered_picture(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    with pytest.raises(ValueError, match="a frame has shape"):
        with VideoWriter(path, width=64, height=48, frame_rate=25) as writer:
            writer.write(np.zeros((48, 65), np.uint8))
    with pytest.raises(ValueError, match="no frame was written"):
        with VideoWriter(path, width=64, height=48, frame_rate=25):
            pass
    with pytest.raises(StavisError, match=r"missing\.mp4 does not exist"):
        VideoWriter(path, width=64, height=48, frame_rate=25, audio_from=tmp_path / "missing.mp4")
    assert path.read_text() == "before"
    assert [child.name for child in tmp_path.iterdir()] == ["video.mp4"]


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    finished = VideoWriter(tmp_path / "finished.mp4", width=64, height=48, frame_rate=25)
    finished.write(numbered_picture(0))
    finished.close()
    given_up = VideoWriter(tmp_path / "given_up.mp4", width=64, height=48, frame_rate=25)
    given_up.write(numbered_picture(0))
    with pytest.raises(StavisError, match="two frames are"):
        given_up.write(numbered_picture(1), 1e6)
    for writer in (finished, given_up):
        with pytest.raises(ValueError, match="is finished, or was given up"):
            writer.write(numbered_picture(1))
        with pytest.raises(ValueError, match="is finished, or was given up"):
            writer.close()
    assert [child.name for child in tmp_path.iterdir()] == ["finished.mp4"]
    assert probe(tmp_path / "finished.mp4").num_frames == 1


def test_unwritable_videos_are_errors(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(StavisError, match=r"video\.mp4 cannot be written: "):
        VideoWriter(blocker / "video.mp4", width=64, height=48, frame_rate=25)
    with pytest.raises(
        StavisError, match=r"video\.xyz cannot be written as a video; allowed suffixes: \.mp4"
    ):
        VideoWriter(tmp_path / "video.xyz", width=64, height=48, frame_rate=25)
    with pytest.raises(ValueError, match="allowed: yuv420p, yuv444p"):
        VideoWriter(tmp_path / "video.mp4", width=64, height=48, frame_rate=25, pixel_format="rgb24")
    with pytest.raises(ValueError, match="it must be above 0"):
        VideoWriter(tmp_path / "video.mp4", width=64, height=48, frame_rate=0)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    script = """
        import resource, sys
        import numpy as np
        from stavis.errors import StavisError
        from stavis.media import VideoWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        random = np.random.default_rng(0)
        try:
            with VideoWriter(sys.argv[1], width=160, height=120, frame_rate=25) as writer:
                for _ in range(30):
                    writer.write(random.integers(0, 256, (120, 160, 3), np.uint8))
        except StavisError as error:
            print(error)
        else:
            print("written")
    """
    path = tmp_path / f"video{suffix}"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{path} cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


# The real clips


class Row(NamedTuple):
    """A clip of the manifest; `video` and `audio` as they stand there."""

    path: Path
    video: str
    audio: str

    def num_pixels(self) -> int:
        streams = re.findall(r"(\d+)x(\d+) [\d.]+ fps (\d+)", self.video)
        return sum(int(width) * int(height) * int(num_frames) for width, height, num_frames in streams)


def read_manifest(shared: Path) -> list[Row]:
    media = shared / "media"
    cells = [line.split("|")[1:-1] for line in (media / "MANIFEST.md").read_text().splitlines()]
    return [
        Row(media / row[0].strip(), row[1].strip(), row[2].strip()) for row in cells if row and "." in row[0]
    ]


# The only header that announces a stream in which there is no packet.
EMPTY_STREAM = "one_pixel.avi"
NUM_PIXELS_OF_SHORT_CLIPS = 60_000_000


def test_real_clips_are_what_their_manifest_says(shared: Path) -> None:
    rows = read_manifest(shared)
    assert len(rows) > 15
    for path, video, audio in rows:
        if video == "no video" or path.name == EMPTY_STREAM:
            message = "has no video stream" if video == "no video" else "no frame in it can be decoded"
            for call in (lambda path=path: probe(path), lambda path=path: next(read_frames(path))):
                with pytest.raises(StavisError, match=message):
                    call()
            continue
        info = probe(path)
        streams = re.findall(r"(\S+) (\d+)x(\d+) ([\d.]+) fps (\d+|\?) frames", video)
        ((codec, _, _, rate, num_frames),) = [
            stream
            for stream in streams
            if (int(stream[1]), int(stream[2])) == (info.coded_width, info.coded_height)
        ]
        assert info.codec == codec
        assert f"{float(info.frame_rate):.3f}" == rate
        assert num_frames in (str(info.num_frames), "?")
        sounds = re.findall(r"(\S+) (\d+) Hz (\S+)", audio)
        if sounds:
            assert info.audio is not None
            assert (info.audio.codec, str(info.audio.sample_rate)) in [sound[:2] for sound in sounds]
            assert info.audio.num_streams == len(sounds)
        elif audio == "undecodable":
            assert info.audio is not None
            assert info.audio.codec is None
        else:
            assert info.audio is None


@pytest.mark.parametrize("are_short", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_real_clips_are_decoded_whole(
    shared: Path, are_short: bool, caplog: pytest.LogCaptureFixture
) -> None:
    num_clips = 0
    for row in read_manifest(shared):
        if (row.num_pixels() < NUM_PIXELS_OF_SHORT_CLIPS) != are_short:
            continue
        if row.video == "no video" or row.path.name == EMPTY_STREAM:
            continue
        info = probe(row.path)
        num_frames, last_time = 0, -1.0
        for frame in read_frames(row.path):
            assert frame.index == num_frames
            assert frame.image.shape == (info.height, info.width, 3)
            assert frame.time_seconds > last_time
            num_frames, last_time = num_frames + 1, frame.time_seconds
        if row.path.name == "truncated.mp4":
            assert (
                "truncated.mp4: 49 of the 50 frames that its header announces could be decoded" in caplog.text
            )
            assert num_frames == 49
        else:
            assert row.path.name not in caplog.text
            assert num_frames == info.num_frames
        if row.path.name == "find_012_talk.mp4":
            assert last_time == pytest.approx(395 * 1001 / 24000, abs=1e-9)
        num_clips += 1
    assert num_clips > 5


def test_real_clips_oddities(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    media = shared / "media"
    # Its time stamps step back from the 32nd frame on.
    talk = times(media / "find_012_talk.mp4", end_seconds=5)
    np.testing.assert_allclose(talk, np.arange(120) * 1001 / 24000, atol=1e-9)
    assert (probe(media / "rotated_90.mov").width, probe(media / "rotated_90.mov").height) == (320, 568)
    assert probe(media / "sar_2x1.mp4").width == 1280
    with AudioReader(media / "audio_undecodable.mp4") as reader:
        assert not reader.read(0, 1000).any()
        assert "audio_undecodable.mp4: the audio (undecodable) is taken as silence" in caplog.text
    with AudioReader(media / "flower_digital_silence.mp4") as reader:
        assert reader.has_sound
        assert not reader.read(0, 5 * 22050).any()
    with AudioReader(media / "audio_shorter.mp4") as reader:
        samples = reader.read(0, round(1.2 * 22050))
        assert samples[:16896].any()
        assert not samples[16896:].any()


def test_real_excerpts_are_slices(shared: Path) -> None:
    for name in ("friday_cc0.mp4", "nasa_multistream.mp4", "dhf1k_002.avi"):
        path = shared / "media" / name
        whole = times(path)
        assert times(path, start_seconds=3.05, end_seconds=4) == [time for time in whole if 3.05 <= time < 4]
        with AudioReader(path) as reader:
            expected = reader.read(round(3.05 * 22050), round(3.05 * 22050) + 20000)
        with AudioReader(path, start_seconds=3.05) as reader:
            np.testing.assert_allclose(reader.read(0, 20000), expected, atol=1e-5)
