"""Tests of the latency suite: plans, docket, judge."""
