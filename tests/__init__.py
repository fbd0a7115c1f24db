"""The harness's own tests; the folders mirror the package."""
