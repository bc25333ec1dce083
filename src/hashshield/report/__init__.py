"""The HTML page of `--report`: one file with pictures and figures of every photo of a run.

Start with `html`, which renders the page; `cards`, `pictures` and `summary` prepare what its templates show.
"""
