"""Photos protected by many machines with Ray: copies into a folder, never in place."""
