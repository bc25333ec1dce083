"""EXIF and XMP, which all formats contain in the same form.

Start at `findings`, which reports the copies of the photo and the personal data in a block, and `rewrite`, which draws
previews again and blanks what is stripped. `exif` parses TIFF blocks, `thumbnails` finds and draws previews, and
`budget` limits the work that a crafted file may cause.
"""
