"""EXIF and XMP, as every format carries them.

Start at `findings`, which reports the copies and personal data a block holds, and `rewrite`, which re-makes or removes
them in place. `exif` walks TIFF blocks, `thumbnails` draws previews, `budget` bounds what a crafted file may cost.
"""
