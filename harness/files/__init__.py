"""What lies on disk: specs, model files, recorded data, project settings, caches."""
