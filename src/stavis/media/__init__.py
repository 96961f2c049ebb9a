"""Everything that touches FFmpeg: what a video is, its pictures, its sound, and writing videos."""

from stavis.media.audio import AudioReader as AudioReader
from stavis.media.frames import Frame as Frame
from stavis.media.frames import read_frames as read_frames
from stavis.media.probe import AudioInfo as AudioInfo
from stavis.media.probe import VideoInfo as VideoInfo
from stavis.media.probe import probe as probe
from stavis.media.samples import read_samples as read_samples
from stavis.media.waves import read_wave as read_wave
from stavis.media.waves import write_wave as write_wave
from stavis.media.writer import VideoWriter as VideoWriter
