"""Jobs to finished runs: on this machine or a cluster, resumable, and what it costs."""
