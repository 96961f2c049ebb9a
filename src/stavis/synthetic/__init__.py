"""Generated world with known ground truth: videos with sound, and observers who follow given shares.

docs/synthetic.md describes it.
"""

from stavis.synthetic.databases import write_databases
from stavis.synthetic.generator import Settings, render_clip
from stavis.synthetic.presets import DRIVES, PRESETS, ROUTES, Preset, make_preset
from stavis.synthetic.truth import SimulatedGaze, Truth, read_truth

__all__ = [
    "DRIVES",
    "PRESETS",
    "ROUTES",
    "Preset",
    "Settings",
    "SimulatedGaze",
    "Truth",
    "make_preset",
    "read_truth",
    "render_clip",
    "write_databases",
]
