"""One use case per module: what the commands call, without a terminal.

Start with `protect`: `plan` decides without torch what there is to do, `execute` reads and writes, `work` turns bytes
into bytes and receipts, one `task` per photo. `verify`, `evaluate`, `audit`, `restore`, `originals`, `watch` and
`doctor` are the other commands; `request`, `targets`, `receipt`, `rows` and `twins` are shared by them.
"""
