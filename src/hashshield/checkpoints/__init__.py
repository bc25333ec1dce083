"""Network files: what is in them, which there are, and how they get here. Only `file` needs torch.

Start with `catalog`, which turns the name of a network into a file. `file` reads and writes safetensors, `card` is the
description inside, `cache` the rows of the catalogue and the folder of downloads, `fetch` and `transfer` the
downloads themselves, whose digest decides.
"""
