"""Exported networks on windows of real videos, in onnxruntime and OpenVINO, beside PyTorch.

    python benchmarks/export_windows.py VIDEO... [--weights WEIGHTS] [--windows 50]

The windows are spread over the videos, with their sound. Printed is the largest difference of a probability to
PyTorch's plain forward pass, and the range of the probabilities; above 1e-4 the status is 1.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import stavis
from stavis import media
from stavis.clips import clip_samples
from stavis.clips.preprocess import Preprocessing, audio_excerpt, make_clip, resize_frame
from stavis.engine.export import FILES, LARGEST_DIFFERENCE, export_model

Array = npt.NDArray[np.float32]
Inputs = dict[str, Array]


def main() -> None:
    """Exports, runs, compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--windows", type=int, default=50, help="in all")
    arguments = parser.parse_args()
    model = stavis.load_model(arguments.weights)
    share = -(-arguments.windows // len(arguments.videos))
    windows = [
        window
        for video in arguments.videos
        for window in read_windows(video, share, model.config.preprocessing)
    ][: arguments.windows]
    if model.config.modality == "visual":
        windows = [{"clips": window["clips"]} for window in windows]
    with torch.inference_mode():
        wanted = [
            torch.sigmoid(
                model(
                    *(torch.from_numpy(window[name]) for name in ("clips", "audio") if name in window)
                ).logits
            ).numpy()
            for window in windows
        ]
    print(
        f"{len(windows)} windows of {len(arguments.videos)} videos, probabilities "
        f"{min(w.min() for w in wanted):.2g} to {max(w.max() for w in wanted):.2g}"
    )
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, open_network in (("onnx", open_onnx), ("openvino", open_openvino)):
            path = Path(folder, name) / FILES[name]  # type: ignore[index]
            export_model(model, path.parent, name)  # type: ignore[arg-type]
            network = open_network(str(path))
            differences = [
                float(np.abs(network(window) - expected).max())
                for window, expected in zip(windows, wanted, strict=True)
            ]
            worst = max(worst, *differences)
            print(f"{name}: largest difference {max(differences):.2g}")
    if not worst <= LARGEST_DIFFERENCE:
        raise SystemExit(f"above {LARGEST_DIFFERENCE:g}")


def read_windows(video: Path, num: int, preprocessing: Preprocessing) -> list[Inputs]:
    """Windows spread over a video, as a network takes them: batches of one."""
    info = media.probe(video)
    frames = [resize_frame(frame.image, preprocessing) for frame in media.read_frames(video)]
    length = preprocessing.clip_length
    starts = np.unique(np.linspace(0, max(0, len(frames) - length), num).astype(int))
    windows = []
    sound = media.AudioReader(video, sample_rate=preprocessing.sample_rate) if info.audio else None
    num_samples = int(len(frames) / info.frame_rate * preprocessing.sample_rate)
    for start in starts:
        shown = [min(start + i, len(frames) - 1) for i in range(length)]
        samples = np.zeros(0, dtype=np.float32)
        if sound is not None:
            heard = clip_samples(shown, float(info.frame_rate), preprocessing.sample_rate, num_samples)
            samples = sound.read(heard.start, heard.stop)
        windows.append(
            {
                "clips": make_clip([frames[i] for i in shown], preprocessing)[None],
                "audio": audio_excerpt(samples, preprocessing)[None],
            }
        )
    if sound is not None:
        sound.close()
    return windows


def open_onnx(path: str) -> Callable[[Inputs], Array]:
    """The network in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda inputs: np.asarray(session.run(["saliency"], dict(inputs))[0])


def open_openvino(path: str) -> Callable[[Inputs], Array]:
    """The network in OpenVINO."""
    import openvino

    network = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: np.asarray(network(inputs)["saliency"])


if __name__ == "__main__":
    main()
