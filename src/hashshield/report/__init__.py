"""The HTML page of `--report`: one file with pictures and figures of every photo of a run.

Start with `html`, which renders the page; `cards` and `pictures` prepare what its templates show.
"""
