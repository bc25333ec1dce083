"""Hash networks: photos in, codes and features out.

Start with `load`, which opens networks by name. `hashing` is the network that a search differentiates through, and
hashes many files with one; `backbones` has the trunks, `device` chooses where it all runs. Networks from elsewhere:
`importing`, with `onnx_reader`, `graph` and `operators` for ONNX files.
"""
