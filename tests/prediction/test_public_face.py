"""The public functions: `stavis.predict`, `predict_video`, `predict_frames`, `predict_files`."""

import csv
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stavis
from stavis import media
from stavis.clips.preprocess import Preprocessing
from stavis.prediction.options import PredictKeywords, PredictOptions
from stavis.weights import save_model

NUM_FRAMES, RATE = 12, 10


@pytest.fixture(scope="module")
def model() -> stavis.STAViS:
    torch.manual_seed(0)
    config = stavis.ModelConfig(depth=10, preprocessing=Preprocessing(input_size=(64, 64)))
    model = stavis.STAViS(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
        model.conv1.weight /= 40
        model.soundnet8[0].weight /= 20
        model.fuseav.bias.zero_()
    return model


@pytest.fixture(scope="module")
def weights(model: stavis.STAViS, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (NUM_FRAMES, 48, 96, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        image[10:30, 5 + 5 * i : 25 + 5 * i] = (250, 200, 20)
    return images


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    times = np.arange(16000 * NUM_FRAMES // RATE) / 16000
    samples = np.sin(2 * np.pi * 440 * times) * (1 + np.sin(2 * np.pi * 3 * times)) / 4
    return np.round(samples * 32768).astype(np.int16)


@pytest.fixture(scope="module")
def clip(images: np.ndarray, samples: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "clip"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"img_{i + 1:05d}.png")
    media.write_wave(folder / "clip.wav", samples / np.float32(32768), 16000)
    return folder


@pytest.fixture(scope="module")
def whole(model: stavis.STAViS, clip: Path) -> stavis.SaliencyVideo:
    return stavis.predict(model, clip, frame_rate=RATE)


def test_predict_returns_all_maps(whole: stavis.SaliencyVideo) -> None:
    assert whole.saliency.shape == (NUM_FRAMES, 64, 64)
    assert whole.saliency.dtype == np.float32
    assert whole.saliency.std(axis=0).max() > 1e-3, "the maps must differ for these tests to mean anything"
    assert whole.time_seconds == pytest.approx(np.arange(NUM_FRAMES) / RATE)
    assert (whole.frame_rate, whole.size, len(whole)) == (RATE, (96, 48), NUM_FRAMES)
    assert "(12, 64, 64) float32" in repr(whole)
    assert len(repr(whole)) < 200
    assert whole._repr_html_().count("data:image/jpeg;base64,") == 4


@pytest.mark.parametrize("kind", ["array", "list", "generator"])
def test_frames_from_memory_give_the_maps_of_the_file(
    model: stavis.STAViS, whole: stavis.SaliencyVideo, images: np.ndarray, samples: np.ndarray, kind: str
) -> None:
    frames = {"array": images, "list": list(images), "generator": (image for image in images)}[kind]
    found = list(stavis.predict_frames(model, frames, frame_rate=RATE, audio=(samples, 16000)))
    assert [frame.index for frame in found] == list(range(NUM_FRAMES))
    np.testing.assert_allclose([frame.saliency for frame in found], whole.saliency, atol=2e-5)


@pytest.mark.parametrize("form", ["float", "stereo"])
def test_audio_from_memory_comes_in_several_forms(
    model: stavis.STAViS, whole: stavis.SaliencyVideo, images: np.ndarray, samples: np.ndarray, form: str
) -> None:
    audio = samples / 32768
    if form == "stereo":
        audio = np.stack([1.5 * audio, 0.5 * audio], axis=1)  # their mean
    found = list(
        stavis.predict_frames(model, images[:6], frame_rate=RATE, audio=(audio[: 16000 * 6 // RATE], 16000))
    )
    expected = list(stavis.predict_video(model, whole.path, frame_rate=RATE, end_seconds=0.55))
    silent = list(stavis.predict_frames(model, images[:6], frame_rate=RATE))
    assert np.abs(silent[5].saliency - found[5].saliency).max() > 1e-4
    # The file's audio continues after the excerpt: the last frames' windows hear it, the first frame's does not.
    np.testing.assert_allclose(found[0].saliency, expected[0].saliency, atol=1e-3)


def test_images_come_on_request_and_frames_unpack_into_three(
    model: stavis.STAViS, clip: Path, images: np.ndarray
) -> None:
    frame = next(stavis.predict_video(model, clip, frame_rate=RATE))
    assert frame.image is None
    index, time_seconds, saliency = frame
    assert (index, time_seconds, saliency.shape) == (0, 0.0, (64, 64))
    with_image = next(stavis.predict_video(model, clip, frame_rate=RATE, keep_images=True))
    assert np.array_equal(with_image.image, images[0])
    assert "saliency=(64, 64) float32" in repr(with_image)


def test_what_is_wrong_fails_at_the_call(model: stavis.STAViS, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    for path in (tmp_path / "absent.mp4", text):
        with pytest.raises(stavis.StavisError, match=path.name):
            stavis.predict_video(model, path)
    with pytest.raises(ValueError, match="stride"):
        stavis.predict_video(model, clip, stride=0)
    with pytest.raises(stavis.StavisError, match=r"absent\.wav"):
        stavis.predict_video(model, clip, frame_rate=RATE, audio_path=tmp_path / "absent.wav")
    with pytest.raises(ValueError, match="exclude"):
        stavis.predict_video(model, clip, audio_path=clip / "clip.wav", silent=True)
    with pytest.raises(ValueError, match="frame_rate"):
        stavis.predict_frames(model, [], frame_rate=0)
    with pytest.raises(ValueError, match="int8"):
        stavis.predict_frames(model, iter([]), frame_rate=RATE, precision="int8")
    with pytest.raises(ValueError, match="audio"):
        stavis.predict_frames(model, [], frame_rate=RATE, audio=(np.zeros(9, np.int32), 16000))
    with pytest.raises(ValueError, match="samples of `audio` have nan or infinite values"):
        stavis.predict_frames(model, [], frame_rate=RATE, audio=(np.full(9, np.nan), 16000))
    with pytest.raises(ValueError, match="`frame_rate='25'`: must be a number"):
        stavis.predict_frames(model, [], frame_rate="25")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"frame 0 is \(3, 8, 8\)"):
        list(stavis.predict_frames(model, [np.zeros((3, 8, 8), np.uint8)], frame_rate=RATE))
    with pytest.raises(TypeError):
        stavis.predict(model, clip, strid=2)  # type: ignore[call-arg]


def test_a_map_is_drawn_over_its_own_frame(whole: stavis.SaliencyVideo, images: np.ndarray) -> None:
    for i in (0, 5, -1):
        overlay = whole.overlay(i, stavis.maps.overlay.OverlayStyle(color_bar=False))
        expected = stavis.maps.overlay.draw_overlay(
            images[i], whole.saliency[i], stavis.maps.overlay.OverlayStyle(color_bar=False)
        )
        assert np.array_equal(overlay, expected)
    with pytest.raises(IndexError):
        whole.overlay(NUM_FRAMES)


def test_saving_writes_what_the_command_writes(
    whole: stavis.SaliencyVideo, weights: Path, clip: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    saved = whole.save(tmp_path / "saved", outputs="maps,npz")
    (predicted,) = stavis.predict_files(
        clip, tmp_path, weights=weights, outputs=["maps", "npz"], quiet=True, frame_rate=RATE
    )
    assert saved.num_frames == predicted.num_frames == NUM_FRAMES
    names = sorted(str(p.relative_to(saved.folder)) for p in saved.folder.rglob("*"))
    assert names == sorted(str(p.relative_to(predicted.folder)) for p in predicted.folder.rglob("*"))
    for name in (name for name in names if "map_" in name):
        a, b = (np.asarray(Image.open(one.folder / name)).astype(int) for one in (saved, predicted))
        assert np.abs(a - b).max() <= 1, name
    with (saved.folder / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = whole.to_pandas()
    assert list(table.columns) == list(rows[0])
    for column in table.columns:
        assert table[column].to_numpy(float) == pytest.approx([float(row[column]) for row in rows], abs=1e-6)
    assert whole.save(tmp_path / "saved", outputs="npz").skipped


def test_reference_edges_keep_the_numbers_of_frames(model: stavis.STAViS, clip: Path, tmp_path: Path) -> None:
    found = stavis.predict(model, clip, frame_rate=RATE, quirks="reference")
    assert list(found.index) == [8, 9, 10, 11]  # the published maps past the end are left out
    found.save(tmp_path / "saved", outputs="maps")
    assert sorted(p.name for p in (tmp_path / "saved" / "maps").iterdir())[0] == "map_000008.png"


def test_one_failed_video_does_not_stop_the_others(weights: Path, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    lines: list[str] = []
    results = stavis.predict_files(
        [broken, clip],
        tmp_path / "out",
        weights=weights,
        outputs="npz",
        quiet=True,
        report=lines.append,
        frame_rate=RATE,
    )
    assert [result.error is None for result in results] == [False, True]
    assert results[0].failures[0].startswith(str(broken))
    assert results[1].num_frames == NUM_FRAMES
    assert [line for line in lines if line.startswith("failed: ")] == [f"failed: {results[0].error}"]
    assert json.loads((tmp_path / "out" / "clip" / "summary.json").read_text())["failed_outputs"] == {}


def test_signatures_list_every_option() -> None:
    """Static types, documentation and the options themselves name the same keywords."""
    options = list(inspect.signature(PredictOptions).parameters)
    assert sorted(PredictKeywords.__annotations__) == sorted(options)
    for function in (stavis.predict, stavis.predict_video, stavis.predict_files):
        assert set(options) <= set(inspect.signature(function).parameters), function


def test_names_of_weights_load_in_python() -> None:
    assert stavis.load_model("untrained", modality="visual", device="cpu").config.modality == "visual"
    with pytest.raises(stavis.StavisError, match="published-1, published-2, published-3"):
        stavis.load_model("published-7")
