"""Read HEIC and AVIF files, and write them with other pixels.

Start at `codec`, which reads and writes whole files. `items` is the model of a still image that it works on; `boxes`
parses the container into that model and builds it again. The libraries that code pictures are in `imaging.coders`.
"""
