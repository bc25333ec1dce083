"""HEIC and AVIF files in and out.

Start at `codec`, which reads and writes whole files. `boxes` parses and builds the container, `items` is the model of a
still picture between the two, and `coders` are the libraries that code pictures.
"""
