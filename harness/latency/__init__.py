"""The latency suite: plans (what is held against what), the docket of trials, the judge."""
