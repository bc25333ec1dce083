"""The search for the smallest change that gives a photo another code.

Start with `search`, which is the method. What it is composed of: `goals` (which bits a photo should get), `objectives`
(losses), `steps` (how a gradient becomes a change), `methods` (a row for each way to search) and `presets` (what a
search prepares for). Around it: `grid` (the photo as the search sees it), `masking` (where a change shows least),
`batching` (how the machine is used), `perturbation` (from the change to 8-bit levels) and `version`.
"""
