"""Coverage of the intervals, false positives and power of the tests of `stavis evaluate`, on simulated scores.

Two simulated models are scored on the same videos. Scores of videos are normal, or skewed (exponential) as scores near
their limit are. Intervals are of one model's mean; tests are of the difference of two models, whose true size is known.

    python benchmarks/evaluation_statistics.py [--trials 1000]
"""

import argparse

import numpy as np

from stavis.evaluation.inference import holm, interval_of_mean, interval_of_video, sign_flip_test

VIDEOS = (3, 6, 10, 20, 40)
EFFECTS = (0.25, 0.5, 1.0)  # true difference in standard deviations of videos' differences
NUM_TESTS = 10  # two models times five metrics, correlated


def video_scores(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Scores of mean 0 and unit variance."""
    return rng.normal(size=shape) if kind == "normal" else rng.exponential(size=shape) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)

    print("| videos | scores | coverage of 95 % intervals | p < 0.05 without a difference |", end="")
    print(" " + " | ".join(f"power, d = {effect}" for effect in EFFECTS) + " |")
    print("| ---: | --- | " + " | ".join(["---:"] * (2 + len(EFFECTS))) + " |")
    for num in VIDEOS:
        for kind in ("normal", "exponential"):
            first, second = video_scores(rng, (2, trials, num), kind)
            intervals = [interval_of_mean(scores) for scores in first]
            samples = (first - second) / np.sqrt(2)
            covered = np.mean([low <= 0 <= high for low, high in intervals])
            false = np.mean([sign_flip_test(sample) < 0.05 for sample in samples])
            power = [
                np.mean([sign_flip_test(sample + effect) < 0.05 for sample in samples]) for effect in EFFECTS
            ]
            cells = " | ".join(f"{value:.1%}" for value in (covered, false, *power))
            print(f"| {num} | {kind} | {cells} |", flush=True)

    # Metrics of one model are correlated: each shares half of its variance with the others.
    wrong = 0
    for _ in range(trials):
        shared = rng.normal(size=(1, 20))
        tests = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(size=(NUM_TESTS, 20))
        wrong += min(holm([sign_flip_test(one) for one in tests])) < 0.05
    print(f"\nAny of {NUM_TESTS} correlated tests on 20 videos significant after Holm: {wrong / trials:.1%}")

    covered = 0
    for _ in range(trials):
        frames = np.convolve(
            rng.normal(size=1024), np.ones(25) / 5, "valid"
        )  # neighbors share 24 of 25 terms
        low, high = interval_of_video(frames, 25)
        covered += low <= 0 <= high
    print(f"Coverage of a video's interval, 1,000 frames correlated over a second: {covered / trials:.1%}")


if __name__ == "__main__":
    main()
