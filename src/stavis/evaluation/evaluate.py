"""Evaluation of saliency maps on the test videos of a data folder."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from stavis.errors import StavisError
from stavis.evaluation.baselines import BASELINES, Baseline
from stavis.evaluation.plan import FIELD_PROTOCOLS, FIRST_FRAME, EvaluationSettings, Plan, Protocol, make_plan
from stavis.evaluation.protocols import open_field_data
from stavis.evaluation.protocols.base import make_field_plan
from stavis.evaluation.record import claim
from stavis.evaluation.run import collect, run
from stavis.evaluation.summary import Evaluation, summarize, write_summary
from stavis.evaluation.tables import write_tables
from stavis.metrics.negatives import Quirks
from stavis.runtime import cluster
from stavis.runtime.workers import default_jobs


def evaluate(
    predictions: str | Path | None,
    data: str | Path,
    output: str | Path | None = None,
    *,
    databases: str | Sequence[str] | None = None,
    split: int | None = None,
    protocol: Protocol = "stavis",
    quirks: Quirks | None = None,
    first_frame: int | None = None,
    stride: int = 1,
    baselines: Sequence[Baseline] | Baseline = (),
    references: bool = True,
    allow_missing: bool = False,
    jobs: int | None = None,
    merge: bool = False,
    ray: str | None = None,
    parquet: bool = False,
    report: bool = True,
    overwrite: bool = False,
    quiet: bool = True,
) -> Evaluation:
    """Scores saliency maps of the test videos as the published MATLAB code does.

    With `output`, writes scores.json, tables, frames.csv, videos.csv and report.html there, and resumes an interrupted
    evaluation. What forms predictions may have is described in docs/evaluation.md.

    Args:
        predictions: Folder of maps; None to score baselines alone.
        data: Data folder in the published layout, or in that of the protocol.
        output: Folder of the evaluation; None writes no files.
        databases: Names of databases; None for all that have predictions.
        split: Split whose test lists are evaluated; None for all that have predictions.
        protocol: For data in the published layout the source of the shuffled AUC's negatives, "stavis", "cross-video"
            or "tuebingen"; for other data "challenge", "dhf1k" or "msu" (docs/protocols.md).
        quirks: "reference" scores as the published code does, "fixed" as it is meant to. By default "reference" in the
            published layout, else "fixed".
        first_frame: The first frame that is scored, from 0. By default 8 in the published layout, else 0.
        stride: From there on every `stride`-th frame is scored.
        baselines: Baselines to score as well, on the same frames.
        references: Score the baselines "center", "shuffled" and "inter-observer" beside predictions wherever the data
            allow it, on some frames of each video.
        allow_missing: Leave out videos without predictions instead of refusing.
        jobs: Number of processes; None for one per processor.
        merge: Score nothing; only average what `evaluate_share` has scored in `output`.
        ray: Address of a Ray cluster whose processes score the videos, `jobs` of them; as for `predict_files`. It must
            see all folders.
        parquet: Also write frames.parquet.
        report: Write report.html.
        overwrite: Score again what is finished.
        quiet: Show no progress.

    Raises:
        ValueError: An argument is not allowed.
        StavisError: Predictions, annotations or lists are missing or unreadable, or `output` is of another evaluation.
    """
    if merge and output is None:
        raise ValueError("merge=True needs an output folder")
    if ray is not None:  # its processes have other working directories
        predictions = None if predictions is None else Path(predictions).absolute()
        data = Path(data).absolute()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if output is None else Path(output).absolute()
        plan, record = _begin(
            predictions,
            data,
            folder,
            databases=databases,
            split=split,
            protocol=protocol,
            quirks=quirks,
            first_frame=first_frame,
            stride=stride,
            baselines=baselines,
            references=references,
            allow_missing=allow_missing,
            overwrite=overwrite,
        )
        if ray is not None and not merge:
            num_shares = jobs or default_jobs()

            def score(number: int) -> int:
                share = (number, num_shares)
                return run(plan, jobs=1, shard=share, overwrite=overwrite, quiet=True)

            cluster.run_shares(score, num_shares, address=ray)
        elif not merge:
            run(plan, jobs=jobs or default_jobs(), overwrite=overwrite, quiet=quiet)
        evaluation = summarize(plan, collect(plan), record, Path(data))
    if output is not None:
        write_summary(folder, evaluation, parquet=parquet)
        write_tables(folder, evaluation)
        if report:
            evaluation.report(folder / "report.html")
    return evaluation


class Options(TypedDict, total=False):
    """Arguments of `evaluate` that decide what is scored."""

    databases: str | Sequence[str] | None
    split: int | None
    protocol: Protocol
    quirks: Quirks | None
    first_frame: int | None
    stride: int
    baselines: Sequence[Baseline] | Baseline
    references: bool
    allow_missing: bool
    overwrite: bool


def evaluate_share(
    share: tuple[int, int],
    predictions: str | Path | None,
    data: str | Path,
    output: str | Path,
    *,
    jobs: int | None = None,
    quiet: bool = True,
    **options: Unpack[Options],
) -> int:
    """Scores one of several shares of the videos; `evaluate(..., merge=True)` averages them once all are scored.

    `share` is (i, n): the i-th of n shares, from 1; the other arguments are those of `evaluate`.

    Returns the number of videos scored now.
    """
    number, num_shares = share
    if not 1 <= number <= num_shares:
        raise ValueError(f"share is {share}; (i, n) with 1 <= i <= n is allowed")
    plan, _ = _begin(predictions, data, Path(output), **options)
    overwrite = options.get("overwrite", False)
    return run(plan, jobs=jobs or default_jobs(), shard=share, overwrite=overwrite, quiet=quiet)


def _begin(
    predictions: str | Path | None, data: str | Path, output: Path, **options: Unpack[Options]
) -> tuple[Plan, dict[str, Any]]:
    """The plan and the record of an evaluation, of which the output folder belongs to it now."""
    overwrite = options.pop("overwrite", False)
    protocol = options.get("protocol", "stavis")
    first_frame, published = options.get("first_frame"), protocol not in FIELD_PROTOCOLS
    settings = EvaluationSettings(
        protocol,
        options.get("quirks") or ("reference" if published else "fixed"),
        (FIRST_FRAME if published else 0) if first_frame is None else first_frame,
        options.get("stride", 1),
    )
    databases, baselines = options.get("databases"), options.get("baselines", ())
    databases = [databases] if isinstance(databases, str) else databases
    baselines = [baselines] if isinstance(baselines, str) else baselines
    if unknown := set(baselines) - set(BASELINES):
        raise ValueError(f"unknown baseline {min(unknown)!r}; allowed: {', '.join(BASELINES)}")
    source = None if predictions is None else Path(predictions)
    if source is not None and not source.is_dir():
        raise StavisError(f"{source}: the folder of predictions does not exist")
    if source is None and not baselines:
        raise ValueError("nothing to score: give predictions, baselines or both")
    shared: dict[str, Any] = {
        "databases": databases,
        "baselines": baselines,
        "references": options.get("references", True),
        "allow_missing": options.get("allow_missing", False),
    }
    if published:
        plan = make_plan(Path(data), source, output, settings, split=options.get("split"), **shared)
    else:
        plan = make_field_plan(open_field_data(Path(data), settings), source, output, **shared)
    return plan, claim(output, Path(data), source, settings, overwrite=overwrite)
