"""Photos protected by many machines with Ray: copies into a folder, never in place.

Start with `run`. `plan` makes the batches, `cluster` starts or finds Ray, `worker` protects a batch, and `manifest` is
the table of receipts from which a run goes on.
"""
