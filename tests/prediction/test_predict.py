"""From video files to maps, through the Python API, against the network called by hand and against recorded maps."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import stavis
from stavis import media
from stavis.clips import repeat_window
from stavis.clips.preprocess import Preprocessing, audio_excerpt, make_clip, resize_frame
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import Layout
from stavis.engine import EngineName, Example, PlainEngine
from stavis.errors import StavisError
from stavis.prediction.options import PredictOptions
from stavis.prediction.outputs import write_published_map
from stavis.prediction.predict import stream_video
from stavis.runtime.prefetch import prefetch

RATE = 20


@pytest.fixture(scope="module")
def small() -> stavis.STAViS:
    """The smallest network, with a read-out whose maps differ from frame to frame."""
    torch.manual_seed(0)
    model = stavis.STAViS(stavis.ModelConfig(depth=10, preprocessing=Preprocessing(input_size=(64, 64))))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
        model.conv1.weight /= 40
        model.soundnet8[0].weight /= 20
        model.fuseav.bias.zero_()
    return model.eval()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 frames at 20 a second, a moving square with a tone that is louder at times."""
    folder = tmp_path_factory.mktemp("clip") / "square"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(21):
        picture = rng.integers(0, 60, (120, 160, 3), dtype=np.uint8)
        picture[40:70, 5 + 6 * i : 35 + 6 * i] = (250, 200, 20)
        Image.fromarray(picture).save(folder / f"img_{i + 1:05d}.png")
    times = np.arange(int(22050 * 21 / RATE)) / 22050
    wave = (np.sin(2 * np.pi * 440 * times) * 0.5 * (1 + np.sin(2 * np.pi * 3 * times)) / 2).astype(
        np.float32
    )
    media.write_wave(folder / "square.wav", wave, 22050)
    return folder


def by_hand(model: stavis.STAViS, folder: Path, target: int, first: int = 0, last: int = 20) -> np.ndarray:
    """The map of frame `target` of the excerpt from frame `first` to `last`, from the definitions."""
    p = model.config.preprocessing
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))][first : last + 1]
    samples, rate = media.read_wave(folder / "square.wav")
    frames = repeat_window(target, len(pictures)).frames
    begin, half = round(first / RATE * rate), rate / RATE / 2
    start = max(begin, int((first + frames[0]) / RATE * rate - half))
    stop = int((first + frames[-1]) / RATE * rate + half) + 1
    excerpt = audio_excerpt(samples[start:stop], p)
    tensor = make_clip([resize_frame(pictures[i], p) for i in frames], p)
    with torch.inference_mode():
        logits = model(torch.from_numpy(tensor)[None], torch.from_numpy(excerpt)[None]).logits
    return torch.sigmoid(logits)[0, 0].numpy()


@pytest.fixture(scope="module")
def exact(small: stavis.STAViS, clip: Path) -> list[stavis.FrameSaliency]:
    return list(stavis.predict_video(small, clip, frame_rate=RATE))


def test_every_frame_gets_its_map(
    small: stavis.STAViS, clip: Path, exact: list[stavis.FrameSaliency]
) -> None:
    found = exact
    assert [f.index for f in found] == list(range(21))
    assert [f.time_seconds for f in found] == pytest.approx([i / RATE for i in range(21)])
    for index in (0, 5, 10, 20):
        assert found[index].saliency.dtype == np.float32
        np.testing.assert_allclose(found[index].saliency, by_hand(small, clip, index), atol=2e-5)
    spread = np.std([f.saliency for f in found], axis=0).max()
    assert spread > 1e-3, "the maps must differ for this test to mean anything"


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_does_not_matter(
    small: stavis.STAViS, clip: Path, exact: list[stavis.FrameSaliency], batch_size: int
) -> None:
    one = [f.saliency for f in exact]
    other = [f.saliency for f in stavis.predict_video(small, clip, frame_rate=RATE, batch_size=batch_size)]
    np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("stride", [2, 6, 50])
def test_stride_computes_some_and_interpolates_the_rest(
    small: stavis.STAViS, clip: Path, exact: list[stavis.FrameSaliency], stride: int
) -> None:
    options = PredictOptions(stride=stride, frame_rate=RATE)
    found = list(stream_video(small, clip, options, keep_images=True))
    assert [f.index for f in found] == list(range(21))
    assert [i for i, f in enumerate(found) if f.computed] == sorted({*range(0, 21, stride), 20})
    for before in range(0, 20, stride):
        after = min(before + stride, 20)
        for i in range(before, after + 1):
            weight = (i - before) / (after - before)
            expected = (1 - weight) * exact[before].saliency + weight * exact[after].saliency
            np.testing.assert_allclose(found[i].saliency, expected, atol=4e-5)
    pictures = [np.asarray(Image.open(path)) for path in sorted(clip.glob("*.png"))]
    for frame, picture in zip(found, pictures, strict=True):
        assert (frame.image == picture).all(), "a map came with another frame's picture"


def test_reference_edges_leave_out_the_first_eight(small: stavis.STAViS, clip: Path) -> None:
    found = list(stavis.predict_video(small, clip, frame_rate=RATE, edges="reference"))
    assert [f.index for f in found] == list(range(8, 21))
    beyond = list(stavis.predict_video(small, clip, frame_rate=RATE, quirks="reference"))
    assert [f.index for f in beyond] == list(range(8, 28))
    assert beyond[-1].time_seconds == pytest.approx(27 / RATE)


def test_sound_and_silence_differ(
    small: stavis.STAViS, clip: Path, exact: list[stavis.FrameSaliency], tmp_path: Path
) -> None:
    loud = [f.saliency for f in exact]
    silent = [f.saliency for f in stavis.predict_video(small, clip, frame_rate=RATE, silent=True)]
    assert np.abs(np.subtract(loud, silent)).max() > 1e-4
    other = tmp_path / "other.wav"
    media.write_wave(other, np.zeros(22050 * 2, np.float32), 22050)
    replaced = [f.saliency for f in stavis.predict_video(small, clip, frame_rate=RATE, audio_path=other)]
    np.testing.assert_allclose(replaced, silent, atol=2e-5)


def test_an_excerpt_is_a_video_of_its_own(small: stavis.STAViS, clip: Path) -> None:
    found = list(stavis.predict_video(small, clip, frame_rate=RATE, start_seconds=0.25, end_seconds=0.75))
    assert [f.index for f in found] == list(range(10))
    assert [f.time_seconds for f in found] == pytest.approx([0.25 + i / RATE for i in range(10)])
    for index in (0, 4, 9):
        np.testing.assert_allclose(found[index].saliency, by_hand(small, clip, index, 5, 14), atol=2e-5)


def test_the_visual_network_needs_no_sound(clip: Path) -> None:
    model = stavis.STAViS(stavis.ModelConfig(modality="visual", depth=10)).eval()
    assert len(list(stavis.predict_video(model, clip, frame_rate=RATE, stride=10))) == 21


def test_what_is_no_video_is_refused(small: stavis.STAViS, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(StavisError, match=r"text\.mp4"):
        list(stavis.predict_video(small, path))


@pytest.mark.parametrize("bad", [{"stride": 0}, {"batch_size": 0}, {"edges": "loop"}, {"quirks": "some"}])
def test_bad_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PredictOptions(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["stride", "batch_size", "frame_rate", "start_seconds", "end_seconds"])
def test_numbers_given_as_text_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}='25'`: must be a number"):
        PredictOptions(**{name: "25"})  # type: ignore[arg-type]


def test_prefetch_keeps_order_passes_errors_on_and_stops() -> None:
    assert list(prefetch(range(100), 3)) == list(range(100))

    def failing() -> object:
        yield 1
        raise KeyError("no")

    items = prefetch(failing(), 2)
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)

    made = []

    def endless() -> object:
        for i in range(1_000_000):
            made.append(i)
            yield i

    items = prefetch(endless(), 3)
    next(items)
    items.close()
    assert len(made) < 10
    assert not any(t.name == "stavis-prefetch" and t.is_alive() for t in threading.enumerate())


def test_the_published_test_run(goldens: Path, recipe: ModuleType, tmp_path: Path) -> None:
    """Every recorded map of the first video, from frames and wave, through the same predict path with its quirks."""
    check_runs(goldens, recipe, tmp_path, modalities=["audiovisual"], num_videos=1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["plain", "torch", "openvino"])
def test_the_published_test_run_on_all_videos(
    goldens: Path, recipe: ModuleType, tmp_path: Path, engine: EngineName
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    modalities = sorted(path.name for path in (goldens / "dataset" / "predictions").iterdir())
    assert modalities
    check_runs(goldens, recipe, tmp_path, modalities, num_videos=None, engine=engine)


def check_runs(
    goldens: Path,
    recipe: ModuleType,
    output: Path,
    modalities: list[str],
    num_videos: int | None,
    engine: EngineName = "auto",
) -> None:
    layout = Layout(goldens / "dataset" / "data")
    shapes = json.loads((goldens / "model" / "state_dict_resnet50.json").read_text())
    entries = read_fold_list(layout.fold_list("DIEM", "test", 1))
    for modality in modalities:
        model = stavis.STAViS(stavis.ModelConfig(modality=modality)).eval()  # type: ignore[arg-type]
        state = {n: torch.from_numpy(recipe.tensor(n, shapes[n], 0)) for n in model.state_dict()}
        model.load_state_dict(state)
        check_run(model, layout, entries[:num_videos], len(entries), goldens, output / modality, engine)


def check_run(  # type: ignore[no-untyped-def]
    model, layout, entries, list_length, goldens: Path, output: Path, engine: EngineName
) -> None:
    for number, entry in enumerate(entries):
        frames = layout.frames_folder("DIEM", entry.video)
        recorded = goldens / "dataset" / "predictions" / model.config.modality / entry.video
        options = PredictOptions(
            quirks="reference",
            engine=engine,
            frame_rate=entry.frame_rate,
            # Quirk 1: the last video of a list was run without its audio.
            audio_path=None if number == list_length - 1 else layout.wave("DIEM", entry.video),
            silent=number == list_length - 1,
        )
        (output / entry.video).mkdir(parents=True, exist_ok=True)
        for frame in stream_video(model, frames, options):
            write_published_map(output / entry.video, frame)
        names = sorted(path.name for path in recorded.glob("*.jpg"))
        assert sorted(path.name for path in (output / entry.video).iterdir()) == names
        for name in names:
            ours = np.asarray(Image.open(output / entry.video / name)).astype(int)
            theirs = np.asarray(Image.open(recorded / name)).astype(int)
            difference = np.abs(ours - theirs).mean()
            assert difference < 0.05, f"{model.config.modality} {entry.video} {name}: {difference}"


def test_memory_of_the_pipeline_is_bounded(small: stavis.STAViS, tmp_path: Path) -> None:
    """Frames wait for their maps, and nothing else is kept: counted through the engine's own seam."""

    class Counting:
        def __init__(self) -> None:
            self.held: set[int] = set()
            self.most = 0

        def add_frame(self, index: int, frame: np.ndarray) -> None:
            self.held.add(index)
            self.most = max(self.most, len(self.held))

        def drop_frames_before(self, index: int) -> None:
            self.held = {i for i in self.held if i >= index}

        def predict(self, windows, audio):  # type: ignore[no-untyped-def]
            assert all(set(w.frames) <= self.held for w in windows)
            return np.zeros((len(windows), 112, 112), np.float32)

    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(300):
        Image.new("RGB", (32, 32), (i % 256, 0, 0)).save(folder / f"img_{i + 1:05d}.png")
    engines = []

    def make_engine(num_windows: int | None, examples: object) -> Counting:
        assert num_windows == 300
        engines.append(Counting())
        return engines[-1]

    options = PredictOptions(frame_rate=25, batch_size=4)
    assert len(list(stream_video(small, folder, options, keep_images=True, make_engine=make_engine))) == 300
    assert engines[0].most <= 16 + 2 * options.batch_size


@pytest.mark.parametrize(("start", "end", "first"), [(None, None, 0), (0.3, 0.8, 6)])
def test_an_engine_is_shown_examples_of_the_video(
    small: stavis.STAViS, clip: Path, start: float | None, end: float | None, first: int
) -> None:
    """Windows that lie in the excerpt, spread over it, with the sound that is heard there."""
    seen: list[Example] = []

    def make_engine(
        num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> PlainEngine:
        assert examples is not None
        seen.extend(examples())
        return PlainEngine(small)

    options = PredictOptions(frame_rate=RATE, start_seconds=start, end_seconds=end)
    frames = stream_video(small, clip, options, make_engine=make_engine)
    assert sum(1 for _ in frames) == (21 if end is None else 10)
    p = small.config.preprocessing
    last = 20 if end is None else 15
    pictures = [
        resize_frame(np.asarray(Image.open(path)), p) for path in sorted(clip.glob("*.png"))[: last + 1]
    ]
    starts = []
    for example in seen:
        at = [i for i, one in enumerate(pictures) if np.array_equal(one, example.frames[0])]
        assert len(at) == 1
        starts += at
        expected = [pictures[min(at[0] + i, last)] for i in range(p.clip_length)]
        np.testing.assert_array_equal(example.frames, expected)
        assert example.audio is not None
        assert example.audio.shape == (p.num_audio_samples,)
        assert np.abs(example.audio).max() > 1
    assert starts[0] == first
    assert starts == sorted(starts)
    assert starts[-1] > (first + last) / 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 21),
        ({"stride": 4}, 6),
        ({"end_seconds": 0.5}, 10),
        ({"start_seconds": 0.25, "end_seconds": 0.75}, 10),
        ({"start_seconds": 0.5, "end_seconds": 99.0, "stride": 2}, 6),
    ],
)
def test_an_engine_is_told_how_much_is_to_come(
    small: stavis.STAViS, clip: Path, options: dict[str, float], expected: int
) -> None:
    """About as many windows as the excerpt has, whatever the whole video has."""
    told = []

    def make_engine(
        num_windows: int | None = None, examples: Callable[[], Sequence[Example]] | None = None
    ) -> PlainEngine:
        told.append(num_windows)
        return PlainEngine(small)

    settings = PredictOptions(frame_rate=RATE, **options)  # type: ignore[arg-type]
    next(stream_video(small, clip, settings, make_engine=make_engine))
    assert told == [expected]
