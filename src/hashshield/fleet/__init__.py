"""Photos protected by many machines with Ray: copies into a folder, never in place.

Start with `run`. `cluster` starts or finds Ray, `worker` protects a batch, and `manifest` makes the batches and is the
table of receipts from which a run goes on.
"""
