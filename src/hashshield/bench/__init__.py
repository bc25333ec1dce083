"""Benches: they measure again what the documentation claims. Nothing that protects photos needs this package.

Start with `config`: the options of each bench, one dataclass each, with their defaults. A bench is a function
`run_<name>(config, progress)` that returns rows, and an entry of `COLUMNS` in the same module: the keys of a row that
are shown on a terminal. `hashshield.cli.bench` makes the commands.

- `targeted` (tables 1 and 2 and figure 2 of the paper), `untargeted` (table 3 and figures 3 and 4), `retrieval` (figure
  1 and the MAP of a checkpoint).
- `goals`, `methods`, `transfer`, `survival`, `copies`, `visible`: what the paper does not ask.
- `speed`, `device`: time and memory.

They share `experiment` (networks, dataset and attacked queries), `searches` (trials: photos changed by a method),
`evaluation` (retrieval scores), `distortions` (what people and services do to photos), `results` (cached trials, result
files, what they were measured with, and plots) and `judges` (which only measure).
"""
