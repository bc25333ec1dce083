"""What each command does, without a terminal: one module per command, and the modules they share.

Start with `protect`. `plan` decides without torch which files need work, `execute` reads and writes files, `work` turns
photos' bytes into protected bytes and receipts, with one `Task` per photo. `verify`, `evaluate`, `audit`, `restore`,
`originals`, `watch` and `doctor` are the other commands. They share `request`, `targets`, `receipt`, `rows`, `twins`.
"""
