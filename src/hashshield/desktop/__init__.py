"""Menu entries in file managers, and the actions they start.

`menus` writes and removes the files that each file manager reads; `actions` carries out an entry and notifies the user.
"""
