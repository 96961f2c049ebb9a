"""Generated world with known ground truth: videos with sound, and observers who follow given shares.

docs/synthetic.md describes it.
"""

from stavis.synthetic.databases import write_databases as write_databases
from stavis.synthetic.generator import Settings as Settings
from stavis.synthetic.generator import render_clip as render_clip
from stavis.synthetic.presets import DRIVES as DRIVES
from stavis.synthetic.presets import PRESETS as PRESETS
from stavis.synthetic.presets import ROUTES as ROUTES
from stavis.synthetic.presets import Preset as Preset
from stavis.synthetic.presets import make_preset as make_preset
from stavis.synthetic.truth import SimulatedGaze as SimulatedGaze
from stavis.synthetic.truth import Truth as Truth
from stavis.synthetic.truth import read_truth as read_truth
