"""Checkpoint files: their contents, the catalogue of known ones, and downloads. Only `file` needs torch.

Start with `catalog`, which turns the name of a network into a file. `file` reads and writes safetensors, `card` is the
description inside. `cache` has the catalogue's entries and the folder of downloaded and imported files. `fetch` and
`transfer` download files, and accept one only if its digest is the catalogue's.
"""
