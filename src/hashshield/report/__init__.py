"""The HTML page of `--report`: one file with pictures and measurements of every photo of a run.

Start with `html`, which renders the page; `cards` and `pictures` prepare the data for its templates.
"""
