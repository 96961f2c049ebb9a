"""File name suffixes of videos and images, the only list of them."""

_VIDEOS = (
    "mp4 m4v f4v mov mkv webm avi mpg mpeg vob ts m2ts mts wmv asf flv ogv ogg 3gp 3g2 mxf dv y4m gif apng"
)
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEOS.split())
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Both are lowercase; compare them with `path.suffix.lower()`."""
