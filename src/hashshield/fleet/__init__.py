"""Protect photos on many machines with Ray: write copies into a folder, never in place.

Start with `run`. `cluster` starts or finds Ray, `worker` protects a batch, and `manifest` divides photos into batches
and reads and writes the table of receipts, from which a run can be continued.
"""
