"""Read JPEG files, and write them with other pixels.

Start at `codec`, which reads and writes whole files. `markers` splits a file into segments and reads its headers,
`metadata` inspects and rewrites the segments around the picture, and `sampling` is the arithmetic on the picture's own
samples.
"""
