"""Parts of the benchmarks of the latency gate: models, decisions, recordings, tables."""
