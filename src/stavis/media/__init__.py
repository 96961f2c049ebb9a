"""Everything that touches FFmpeg: what a video is, its pictures, its sound, and writing videos."""

from stavis.media.audio import AudioReader
from stavis.media.frames import Frame, read_frames
from stavis.media.probe import AudioInfo, VideoInfo, probe
from stavis.media.samples import read_samples
from stavis.media.waves import read_wave, write_wave
from stavis.media.writer import VideoWriter

__all__ = [
    "AudioInfo",
    "AudioReader",
    "Frame",
    "VideoInfo",
    "VideoWriter",
    "probe",
    "read_frames",
    "read_samples",
    "read_wave",
    "write_wave",
]
