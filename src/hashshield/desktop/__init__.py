"""Entries in the menus of file managers, and what they start.

`menus` has the files that each file manager reads, and writes and removes them; `actions` is what an entry does, and
how it says so.
"""
