"""Metrics of codes and rankings (`retrieval`), and of two photos, classical hashes included (`image`).

All are pure functions. Start with `retrieval`, whose convention for bits the rest of the package follows.
"""
