"""Metrics of codes (`hamming`), rankings (`retrieval`), photos (`image`) and classical hashes (`perceptual`).

All are pure functions. Start with `hamming`, whose convention for bits the rest of the package follows.
"""
