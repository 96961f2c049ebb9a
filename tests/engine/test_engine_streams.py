"""Whole videos of any length through every engine: the maps of the plain forward pass, with any options."""

import importlib.util
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stavis
from stavis import media
from stavis.clips import Window
from stavis.engine import Engine, EngineFactory, EngineName, Example, PlainEngine
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import FrameSaliency, stream_video
from support.networks import forget_time_in_stem_and_layer1, frames, lively_network

TOLERANCE = 1e-4  # of a probability
LONGEST = 200  # frames
RATE = 25


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames with noise to hear whose loudness changes."""
    folder = tmp_path_factory.mktemp("video")
    times = np.arange(LONGEST * 22050 // RATE) / 22050
    loudness = 0.2 * (1 + np.sin(2 * np.pi * 0.7 * times))
    noise = loudness * np.random.default_rng(0).normal(0, 0.3, len(times))
    media.write_wave(folder / "sound.wav", noise.astype(np.float32), 22050)
    path = folder / "video.mkv"
    with media.VideoWriter(
        path, width=64, height=64, frame_rate=Fraction(RATE), audio_from=folder / "sound.wav"
    ) as writer:
        for picture in frames(LONGEST):
            writer.write(picture)
    return path


has_openvino = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not has_openvino, reason="needs OpenVINO: pip install 'stavis[openvino]'")


@pytest.fixture(scope="module")
def factories() -> dict[tuple[str, str], EngineFactory]:
    """By network, named after its modality or what is special about it, and engine."""
    networks = {name: lively_network(modality=name) for name in ("audiovisual", "visual")}
    engines: list[EngineName] = ["torch", "openvino"] if has_openvino else ["torch"]
    made = {
        (m, engine): EngineFactory(network, engine) for m, network in networks.items() for engine in engines
    }
    spatial = forget_time_in_stem_and_layer1(lively_network(modality="visual"))
    return made | {("spatial layer1", "torch"): EngineFactory(spatial, "torch")}


class Remembering:
    """The plain engine, which computes the same window with the same sound once only, whatever video it is in."""

    known: dict[tuple[object, ...], np.ndarray] = {}  # noqa: RUF012

    def __init__(self, model: stavis.STAViS) -> None:
        self.plain = PlainEngine(model)
        self.add_frame = self.plain.add_frame
        self.drop_frames_before = self.plain.drop_frames_before

    def predict(self, windows: Sequence[Window], audio: np.ndarray | None) -> np.ndarray:
        return np.stack(
            [self.one(w, None if audio is None else audio[i : i + 1]) for i, w in enumerate(windows)]
        )

    def one(self, window: Window, audio: np.ndarray | None) -> np.ndarray:
        key = (id(self.plain.model), window.frames, None if audio is None else audio.tobytes())
        if key not in self.known:
            self.known[key] = self.plain.predict([window], audio)[0]
        return self.known[key]


def predict(
    model: stavis.STAViS, video: Path, options: PredictOptions, engine: Engine
) -> list[FrameSaliency]:
    def make_engine(
        num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> Engine:
        return engine

    return list(stream_video(model, video, options, keep_images=True, make_engine=make_engine))


def check(
    factories: dict[tuple[str, str], EngineFactory],
    video: Path,
    engine: str,
    modality: str,
    num: int,
    **drawn: Any,
) -> None:
    options = PredictOptions(end_seconds=(num - 0.5) / RATE, **drawn)
    if (modality, engine) not in factories:
        pytest.skip("needs OpenVINO")
    factory = factories[modality, engine]
    expected = predict(factory.model, video, options, Remembering(factory.model))
    found = predict(factory.model, video, options, factory())
    assert len(found) == len(expected)
    if options.edges == "repeat" and options.quirks == "fixed":
        assert [one.index for one in found] == list(range(num))
    for a, b in zip(found, expected, strict=True):
        assert (a.index, a.time_seconds) == (b.index, b.time_seconds)
        assert a.computed == b.computed
        assert (a.image is None) == (b.image is None)
        np.testing.assert_allclose(a.saliency, b.saliency, atol=TOLERANCE)


def any_video(max_examples: int, longest: int = LONGEST) -> Callable[..., Callable[..., None]]:
    """Draws lengths, strides, edges and batches."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        drawn = given(
            num=st.integers(1, longest),
            stride=st.one_of(st.integers(1, 3), st.integers(1, 40)),
            batch_size=st.integers(1, 5),
            edges=st.sampled_from(["repeat", "reference"]),
            quirks=st.sampled_from(["fixed", "reference"]),
        )(test)
        relaxed = settings(
            deadline=None,
            max_examples=max_examples,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        return relaxed(drawn)

    return decorate


def cases(*slow: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("engine", "modality"),
        [
            pytest.param(
                e,
                m,
                marks=[
                    *([pytest.mark.slow] if (e, m) in slow else []),
                    *([needs_openvino] if e == "openvino" else []),
                ],
            )
            for e, m in (
                ("torch", "audiovisual"),
                ("torch", "visual"),
                ("torch", "spatial layer1"),
                ("openvino", "audiovisual"),
                ("openvino", "visual"),
            )
        ],
    )


@cases(("openvino", "visual"))
@any_video(max_examples=4, longest=60)
def test_any_video(factories, video, engine, modality, num, **drawn) -> None:  # type: ignore[no-untyped-def]
    check(factories, video, engine, modality, num, **drawn)


@pytest.mark.slow
@cases()
@any_video(max_examples=40)
def test_many_videos(factories, video, engine, modality, num, **drawn) -> None:  # type: ignore[no-untyped-def]
    check(factories, video, engine, modality, num, **drawn)


@pytest.mark.slow
@cases()
def test_lengths_one_by_one(factories, video, engine, modality) -> None:  # type: ignore[no-untyped-def]
    """Up to 40 frames, then every ninth length; every frame computed."""
    for num in (*range(1, 41), *range(47, LONGEST + 1, 9)):
        check(factories, video, engine, modality, num)
