"""Coverage of the intervals, false positives and power of the tests of `stavis evaluate`, on simulated scores.

Two simulated models are scored on the same videos. A video's difference is the true one plus a video effect; frames add
correlated noise, which is averaged. The distribution of video effects is normal, or skewed (exponential) as scores near
their limit are.

    python benchmarks/evaluation_statistics.py [--trials 1000]
"""

import argparse

import numpy as np

from stavis.evaluation.inference import holm, interval_of_mean, interval_of_video, sign_flip_test

VIDEOS = (6, 10, 20, 40)
EFFECTS = (0.25, 0.5, 1.0)  # true difference in standard deviations of videos' differences
NUM_TESTS = 10  # two models times five metrics, correlated


def differences(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Centered video effects of unit variance."""
    return rng.normal(size=shape) if kind == "normal" else rng.exponential(size=shape) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)

    print("| videos | differences | coverage of 95 % intervals | p < 0.05 without a difference |", end="")
    print(" " + " | ".join(f"power, d = {effect}" for effect in EFFECTS) + " |")
    print("| ---: | --- | " + " | ".join(["---:"] * (2 + len(EFFECTS))) + " |")
    for num in VIDEOS:
        for kind in ("normal", "exponential"):
            samples = differences(rng, (trials, num), kind)
            intervals = [interval_of_mean(sample) for sample in samples]
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
