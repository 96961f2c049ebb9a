"""Recordings as they occur: cut streams, wrong headers, drifting clocks, gaps, odd names and formats."""

import contextlib
import logging
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.frame import AudioFrame
from PIL import Image

from stavis.errors import StavisError
from stavis.media import AudioReader, VideoWriter, probe, read_frames, write_wave
from stavis.media.image_folder import find_images
from support.videos import RATE, make_video, number_of, numbered_picture, numbers, times, tone

AT = (0.52, 1.32, 1.72)  # seconds of flashes and beeps


def make_flashes(
    path: Path, *, num_frames: int = 60, codec: str = "libx264", audio_codec: str = "aac", **options: Any
) -> Path:
    """A video that flashes and beeps at the same instants."""
    pictures = []
    beeps = np.zeros((1, round(num_frames / RATE * 48000)), np.float32)
    for at in AT:
        beeps[0, round(at * 48000) : round((at + 0.08) * 48000)] = tone(0.08, 48000, 1000)[0]
    for i in range(num_frames):
        is_flash = any(0 <= i - round(at * RATE) < 2 for at in AT)
        pictures.append(np.full((48, 64, 3), 255 if is_flash else 40, np.uint8))
    if codec == "mpeg2video":  # which knows few rates
        options["prepare"] = lambda stream: setattr(stream.codec_context, "time_base", Fraction(1, RATE))
    return make_video(path, pictures, codec=codec, sounds=[(audio_codec, beeps, 48000, 0)], **options)


def find_flashes(path: Path, **arguments: Any) -> list[float]:
    found, before = [], False
    for frame in read_frames(path, **arguments):
        is_flash = bool(frame.image.mean() > 180)
        if is_flash and not before:
            found.append(frame.time_seconds)
        before = is_flash
    return found


def find_beeps(path: Path, seconds: float = 6, **arguments: Any) -> list[float]:
    with AudioReader(path, **arguments) as reader:
        loud = np.flatnonzero(np.abs(reader.read(0, round(seconds * reader.sample_rate))) > 0.1)
        first = loud[np.r_[True, np.diff(loud) > reader.sample_rate // 5]]
        return list(first / reader.sample_rate + arguments.get("start_seconds", 0))


def remux(source: Path, target: Path, change: Callable[[Any], Any]) -> Path:
    """Copies the packets of a file that `change` leaves, with the time stamps that it gives them."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        streams = {stream.index: writer.add_stream_from_template(stream) for stream in reader.streams}
        for packet in reader.demux():
            if packet.size and change(packet) is not False:
                packet.stream = streams[packet.stream.index]
                writer.mux(packet)
    return target


# Times of frames


@pytest.mark.parametrize(
    ("codec", "audio_codec", "bf"),
    [
        ("mpeg2video", "mp2", "0"),
        ("mpeg2video", "mp2", "2"),
        ("libx264", "aac", "0"),
        ("libx264", "aac", "2"),
    ],
)
def test_streams_cut_between_key_frames_stay_in_sync(
    tmp_path: Path, codec: str, audio_codec: str, bf: str
) -> None:
    path = make_flashes(
        tmp_path / "whole.ts", codec=codec, audio_codec=audio_codec, options={"g": "12", "bf": bf}
    )
    data = path.read_bytes()
    num_packets = len(data) // 188
    path.write_bytes(data[: 2 * 188] + data[188 * (num_packets // 5) :])
    flashes, beeps = find_flashes(path), find_beeps(path)
    assert len(flashes) == len(beeps) >= 2
    np.testing.assert_allclose(flashes, beeps, atol=0.05)


@pytest.mark.parametrize("start", [0.7, 1.1])
def test_excerpts_of_program_streams_stay_in_sync(tmp_path: Path, start: float) -> None:
    path = make_flashes(
        tmp_path / "video.mpg", codec="mpeg2video", audio_codec="mp2", options={"g": "25", "bf": "0"}
    )
    expected = [at for at in AT if at >= start]
    np.testing.assert_allclose(find_flashes(path, start_seconds=start), expected, atol=0.05)
    np.testing.assert_allclose(find_beeps(path, start_seconds=start), expected, atol=0.05)


def test_packets_without_a_frame_do_not_shift_the_frames_that_follow(tmp_path: Path) -> None:
    """Stamps in the order of decoding, and packets in the middle that do not decode, in one file."""

    def stamp_in_order(place: int, packet: Any) -> None:
        packet.pts = packet.dts = place * 512

    path = make_video(tmp_path / "video.mkv", 60, alter=stamp_in_order, options={"bf": "2", "g": "20"})
    with av.open(str(path)) as container:
        key = [packet.pos for packet in container.demux(video=0) if packet.is_keyframe][1]
    data = bytearray(path.read_bytes())
    data[key + 8 : key + 40] = bytes(32)
    path.write_bytes(data)
    shown = [(number_of(frame.image), round(frame.time_seconds * RATE)) for frame in read_frames(path)]
    assert shown[-15:] == [(i, i) for i in range(45, 60)]


# The end of the audio


def audio_file(
    path: Path, samples: npt.NDArray[np.float32], codec: str, rate: int = 44100, **options: Any
) -> Path:
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.codec_context.layout = "mono"
        step = stream.codec_context.frame_size or 1024
        for place in range(0, len(samples), step):
            frame = AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[None, place : place + step]), "fltp", "mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def heard_end(path: Path) -> float:
    with AudioReader(path) as reader:
        for start in range(0, 10 * reader.sample_rate, 4410):
            if (end := reader.find_end(start, start + 8820)) < start + 8820:
                return end / reader.sample_rate
            reader.read(start, start + 8820)
    return float("inf")


def shorten_track_header(path: Path, seconds: int) -> Path:
    data = bytearray(path.read_bytes())
    place = data.rindex(b"mdhd")  # of the audio, whose time scale is the sample rate
    rate = struct.unpack(">I", data[place + 16 : place + 20])[0]
    data[place + 20 : place + 24] = struct.pack(">I", seconds * rate)
    path.write_bytes(data)
    return path


def test_audio_beyond_the_announced_end_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = tone(4, 44100)
    for suffix in (".mp4", ".mov"):
        path = make_video(tmp_path / f"short{suffix}", 100, sounds=[("aac", samples, 44100, 0)])
        shorten_track_header(path, 1)
        with AudioReader(path) as reader:
            assert reader.num_samples == 22050
        assert heard_end(path) == pytest.approx(4, abs=0.05)
        assert f"short{suffix}: the audio is longer than its header says" in caplog.text


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.aac", "aac", {}),
        ("a.mp3", "libmp3lame", {"write_xing": "0"}),
        ("a.mka", "flac", {}),
        ("a.wav", "pcm_s16le", {}),
    ],
)
def test_the_end_of_audio_files_is_found(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """ADTS and MP3 files without a Xing header have estimated lengths, Matroska has none per stream."""
    path = audio_file(
        tmp_path / name, np.concatenate([tone(3, 44100)[0], np.zeros(44100, np.float32)]), codec, **options
    )
    assert heard_end(path) == pytest.approx(4, abs=0.06)


def test_an_announced_end_that_is_right_is_kept(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", 50, sounds=[("aac", tone(1.51, 44100), 44100, 0)])
    with AudioReader(path) as reader:
        assert reader.num_samples is not None
        assert reader.find_end(30000, 50000) == reader.num_samples


# Clocks


@pytest.mark.parametrize("factor", [0.98, 0.995, 1.005, 1.03])
@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "pcm_s16le"), (".ts", "aac")])
def test_audio_clocks_that_run_fast_or_slow_are_corrected(
    tmp_path: Path, factor: float, suffix: str, codec: str
) -> None:
    rate, beeps = 16000, range(2, 30, 3)
    samples = np.zeros((1, round(31 * factor * rate)), np.float32)
    for at in beeps:
        place = round(at * factor * rate)
        samples[0, place : place + 1600] = tone(0.1, rate, 1000)[0]
    source = make_video(tmp_path / "source.mkv", 2, rate=1, times=[0, 30], sounds=[(codec, samples, rate, 0)])

    def stamp(packet: Any) -> bool:
        if packet.stream.type == "audio":
            packet.pts = packet.dts = round(packet.pts / factor)
        return True

    path = remux(source, tmp_path / f"drift{suffix}", stamp)
    np.testing.assert_allclose(find_beeps(path, 31), list(beeps), atol=0.12)


@pytest.mark.parametrize("seconds", [3600.0, 20000.0])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_jump_of_the_clock_is_closed_up(
    tmp_path: Path, suffix: str, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    codec, audio_codec = ("mpeg2video", "mp2") if suffix == ".ts" else ("libx264", "aac")
    source = make_flashes(
        tmp_path / "source.mkv", codec=codec, audio_codec=audio_codec, options={"bf": "0", "g": "5"}
    )

    def jump(packet: Any) -> bool:
        if packet.pts * packet.time_base > Fraction(99, 100):
            packet.pts += round(seconds / packet.time_base)
            packet.dts = packet.pts
        return True

    path = remux(source, tmp_path / f"jump{suffix}", jump)
    np.testing.assert_allclose(times(path), np.arange(60) / RATE, atol=2e-3)
    assert f"the clock jumps by {seconds:.0f} s after 1.0 s; the gap is closed up" in caplog.text
    assert find_flashes(path) == pytest.approx(AT, abs=0.03)
    assert find_beeps(path) == pytest.approx(AT, abs=0.03)
    assert find_flashes(path, start_seconds=1.1) == pytest.approx(AT[1:], abs=0.03)
    assert find_beeps(path, start_seconds=1.1) == pytest.approx(AT[1:], abs=0.03)
    assert float(probe(path).frame_rate) == pytest.approx(RATE, rel=0.02)
    assert times(path, keep_gaps=True)[-1] == pytest.approx(59 / RATE + seconds, abs=0.01)
    copy = tmp_path / "copy.mp4"
    with VideoWriter(copy, width=64, height=48, frame_rate=RATE, audio_from=path) as writer:
        for frame in read_frames(path):
            writer.write(frame.image, frame.time_seconds)
    assert find_beeps(copy) == pytest.approx(AT, abs=0.03)


def test_a_single_wrong_time_stamp_moves_one_frame_only(tmp_path: Path) -> None:
    def alter(place: int, packet: Any) -> None:
        if place == 20:
            packet.pts += 9000 * 12800

    path = make_video(tmp_path / "video.nut", 40, codec="mjpeg", pixel_format="yuvj420p", alter=alter)
    assert numbers(path) == list(range(40))
    np.testing.assert_allclose(times(path), np.arange(40) / RATE, atol=0.041)


def test_a_frame_shown_while_the_audio_continues_is_not_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slides = [0, 0.04, 700, 700.04]
    path = make_video(
        tmp_path / "slides.mkv",
        4,
        times=slides,
        options={"bf": "0"},
        sounds=[("pcm_s16le", tone(701, 1000, 100), 1000, 0)],
    )
    np.testing.assert_allclose(times(path), slides, atol=1e-3)
    silent = make_video(tmp_path / "silent.mkv", 4, times=slides, options={"bf": "0"})
    assert times(silent)[-1] < 1
    assert times(silent, keep_gaps=True)[-1] == pytest.approx(700.04, abs=1e-3)
    lapse = make_video(tmp_path / "lapse.mkv", 6, rate=Fraction(1, 400), times=[400.0 * i for i in range(6)])
    assert times(lapse) == [400 * i for i in range(6)]


# Image folders


def write_images(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        Image.fromarray(numbered_picture(i)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("numbers_of_names", "expected"),
    [
        (
            [1403636579763555584 + t for t in (0, 49999872, 100000000, 149999872, 300000000)],
            [0, 1, 2, 3, 6],
        ),  # ns
        ([1700000000000 + t for t in (0, 33, 67, 100, 133, 200)], [0, 1, 2, 3, 4, 6]),  # ms
        ([5, 10, 15, 30], [0, 1, 2, 5]),
        ([1, 2, 5, 6], [0, 1, 4, 5]),
    ],
)
def test_times_as_names_are_recognized(
    tmp_path: Path, numbers_of_names: list[int], expected: list[int]
) -> None:
    folder = write_images(tmp_path / "folder", [f"{number}.png" for number in numbers_of_names])
    assert find_images(folder, Fraction(20)).positions == tuple(expected)


def test_seconds_with_decimals_as_names_are_recognized(tmp_path: Path) -> None:
    names = [
        "1305031102.175304.png",
        "1305031102.211214.png",
        "1305031102.243211.png",
        "1305031102.311214.png",
    ]
    assert find_images(write_images(tmp_path / "rgb", names), Fraction(30)).positions == (0, 1, 2, 4)


def test_absurd_numbers_are_closed_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_images(tmp_path / "folder", ["a7.png", "a8.png", "a99000000008.png", "a99000000010.png"])
    assert times(folder, frame_rate=10) == [0, 0.1, 0.2, 0.4]
    assert "1 gaps of more than 300 s between frame numbers are closed up" in caplog.text
    assert times(folder, frame_rate=10, keep_gaps=True)[-1] > 9e9
    missing = write_images(tmp_path / "missing", ["1.png", "2.png", "4002.png"])
    assert times(missing, frame_rate=10)[-1] < 1
    write_wave(missing / "audio.wav", np.zeros(8000 * 401, np.float32), 8000)
    assert times(missing, frame_rate=10)[-1] == pytest.approx(400.1)


@pytest.mark.parametrize("suffix", [".ppm", ".pgm", ".PPM", ".TIF", ".WebP"])
def test_documented_formats_and_suffixes_in_capitals_are_read(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(numbered_picture(i)).convert("L").save(folder / f"{i}{suffix}", lossless=True)
        (folder / f"._{i}{suffix}").write_bytes(b"\0\5\x16\7")
    assert [number_of(frame.image) for frame in read_frames(folder, frame_rate=25)] == [0, 1, 2]


# Images


def upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    flipped = image[:, ::-1] if orientation in (2, 4, 5, 7) else image
    return np.rot90(flipped, {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".jpg"])
def test_exif_orientation_of_images_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera"
    path = tmp_path / f"image{suffix}"
    Image.fromarray(picture).save(path, exif=exif, lossless=True)
    (frame,) = read_frames(path)
    assert np.abs(frame.image.astype(int) - upright(picture, orientation)).mean() < 5


def test_motion_jpeg_with_exif_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "video.mjpeg"
    for i in range(4):
        Image.fromarray(numbered_picture(i)).save(tmp_path / "frame.jpg", exif=exif, quality=95)
        with path.open("ab") as file:
            file.write((tmp_path / "frame.jpg").read_bytes())
    assert [number_of(np.rot90(frame.image)) for frame in read_frames(path)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("suffix", "what"), [(".webp", "frames"), (".tiff", "pages"), (".TIF", "pages")])
def test_images_of_several_frames_are_named(tmp_path: Path, suffix: str, what: str) -> None:
    images = [Image.fromarray(numbered_picture(i)) for i in range(5)]
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / f"image{suffix}", tmp_path / "folder" / f"1{suffix}"):
        images[0].save(path, save_all=True, append_images=images[1:])
    for source in (tmp_path / f"image{suffix}", tmp_path / "folder"):
        with pytest.raises(StavisError, match=f"image of 5 {what}, which is not read as a video"):
            list(read_frames(source, frame_rate=25))
    images[0].save(tmp_path / f"single{suffix}")
    assert len(list(read_frames(tmp_path / f"single{suffix}"))) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "is a web page"),
    ],
)
def test_what_stands_in_the_place_of_a_video_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(StavisError, match=message):
        probe(path)


# Channels


def make_channels(path: Path, channels: npt.NDArray[np.float32], codec: str = "pcm_s16le") -> Path:
    return make_video(path, 5, sounds=[(codec, channels, 48000, 0)])


def test_channels_that_cancel_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = tone(2, 48000, 700)[0]
    half = np.where(np.arange(len(left)) < len(left) // 2, left, -left)
    low = np.zeros((6, len(left)), np.float32)
    low[3] = left  # the low-frequency channel, which has no weight
    cases = {"opposite.mov": (left, -left), "half.mov": (left, half), "low.mov": low}
    for name, channels in cases.items():
        caplog.clear()
        with AudioReader(make_channels(tmp_path / name, np.stack(list(channels)))) as reader:
            reader.read(0, 44100)
        assert f"{name}: the mix of the audio channels is nearly silent" in caplog.text
    caplog.clear()
    for name, other in (("equal.mov", left), ("one.mov", 0 * left), ("delayed.mov", np.roll(left, 17))):
        with AudioReader(make_channels(tmp_path / name, np.stack([left, other]))) as reader:
            reader.read(0, 44100)
    assert not caplog.text


def test_one_channel_can_be_chosen(tmp_path: Path) -> None:
    low, high = tone(1, 48000, 300)[0], tone(1, 48000, 2000)[0]
    path = make_channels(tmp_path / "video.mov", np.stack([low, high]))
    for channel, frequency in enumerate((300, 2000)):
        with AudioReader(path, channel=channel, sample_rate=None) as reader:
            assert np.abs(np.fft.rfft(reader.read(0, 48000))).argmax() == frequency
    with pytest.raises(StavisError, match="has no audio channel 2; its channels are 0 to 1"):
        AudioReader(path, channel=2)


# Writing


def rewrite(source: Path, target: Path) -> Path:
    info = probe(source)
    with VideoWriter(
        target, width=info.width, height=info.height, frame_rate=info.frame_rate, audio_from=source
    ) as writer:
        for frame in read_frames(source):
            writer.write(frame.image, frame.time_seconds)
    return target


def joined_recordings(folder: Path) -> Path:
    """Audio whose time stamps step back."""
    path = make_flashes(folder / "joined.ts", options={"bf": "0"})
    path.write_bytes(path.read_bytes() * 2)
    return path


def stopped_clock(folder: Path) -> Path:
    """Audio whose time stamps are all equal from 1.8 s on."""

    def stop(packet: Any) -> bool:
        if packet.stream.type == "audio":
            packet.pts = packet.dts = min(packet.pts, round(Fraction(18, 10) / packet.time_base))
        return True

    return remux(make_flashes(folder / "source.mkv", options={"bf": "0"}), folder / "stopped.mkv", stop)


@pytest.mark.parametrize("make", [joined_recordings, stopped_clock])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_audio_stamps_that_do_not_ascend_are_encoded_anew(
    tmp_path: Path, make: Callable[[Path], Path], suffix: str
) -> None:
    source = make(tmp_path)
    target = rewrite(source, tmp_path / f"target{suffix}")
    assert find_beeps(target) == pytest.approx(find_beeps(source), abs=0.01)
    assert find_beeps(target)[: len(AT)] == pytest.approx(AT, abs=0.03)


@pytest.mark.parametrize(
    ("codec", "rate"), [("libmp3lame", 8000), ("libmp3lame", 11025), ("ac3", 32000), ("aac", 7350)]
)
def test_audio_that_a_container_does_not_take_is_encoded_anew(tmp_path: Path, codec: str, rate: int) -> None:
    source = make_video(tmp_path / "source.mkv", 50, sounds=[(codec, tone(2, rate, 500), rate, 0)])
    for suffix in (".mp4", ".mov", ".webm"):
        target = rewrite(source, tmp_path / f"target{suffix}")
        with AudioReader(target, sample_rate=None) as reader:
            samples = reader.read(reader.sample_rate // 2, reader.sample_rate)
        assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(("width", "height"), [(16400, 20), (6, 17000)])
def test_frames_larger_than_the_encoder_takes_are_scaled(
    tmp_path: Path, width: int, height: int, caplog: pytest.LogCaptureFixture
) -> None:
    for image in (np.full((height, width, 3), 90, np.uint8), np.full((height, width), 90, np.uint8)):
        path = tmp_path / "wide.mp4"
        with VideoWriter(path, width=width, height=height, frame_rate=25) as writer:
            writer.write(image)
        assert f"wide.mp4: frames of {width}x{height} are scaled to" in caplog.text
        (frame,) = read_frames(path)
        assert max(frame.image.shape) == 16384
        assert np.abs(frame.image.astype(int) - 90).max() < 4


def test_gaps_too_long_for_a_video_are_one_line(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "video.mp4", width=64, height=48, frame_rate=25)
    writer.write(numbered_picture(0), 0)
    with pytest.raises(StavisError, match=r"two frames are 90000 s apart, and a video can hold \d+ s"):
        writer.write(numbered_picture(1), 90000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [1e-6, 1 / 600, 90000.0])
def test_extreme_frame_rates_are_written(tmp_path: Path, rate: float) -> None:
    for suffix in (".mp4", ".webm"):
        path = tmp_path / f"video{suffix}"
        with VideoWriter(path, width=64, height=48, frame_rate=rate) as writer:
            writer.write(numbered_picture(7))
        assert numbers(path) == [7]


def test_a_cover_picture_is_named(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "song.mp4",
        1,
        codec="mjpeg",
        pixel_format="yuvj420p",
        prepare=lambda stream: setattr(stream, "disposition", av.stream.Disposition.attached_pic),
        sounds=[("aac", tone(1, 44100), 44100, 0)],
    )
    with pytest.raises(StavisError, match=r"no video stream \(it has: audio, cover picture\)"):
        probe(path)


def test_warnings_name_the_parameters(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.WARNING, "stavis")
    times(make_video(tmp_path / "video.mkv", 4, times=[0, 0.04, 1000, 1000.04], options={"bf": "0"}))
    assert "`keep_gaps=True` keeps it" in caplog.text


def test_damaged_images_are_one_line_errors(tmp_path: Path) -> None:
    """Pillow reports damage by errors of many kinds, such as TypeError for a TIFF without its size."""
    Image.fromarray(numbered_picture(3)).save(tmp_path / "whole.tiff")
    content = (tmp_path / "whole.tiff").read_bytes()
    (tmp_path / "whole.tiff").unlink()
    directory = struct.unpack("<I", content[4:8])[0]
    for entry in range(struct.unpack("<H", content[directory : directory + 2])[0]):
        data = bytearray(content)
        data[directory + 2 + 12 * entry] ^= 0x40  # another tag
        (tmp_path / "1.tiff").write_bytes(data)
        for source in (tmp_path, tmp_path / "1.tiff"):
            with contextlib.suppress(StavisError):  # some are still images
                assert len(list(read_frames(source, frame_rate=25))) == 1
