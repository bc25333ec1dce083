"""JPEG files in and out.

Start at `codec`, which reads and writes whole files. `markers` takes a file apart, `metadata` looks after what is not
picture, `samples` codes the picture, and `sampling` is its arithmetic.
"""
