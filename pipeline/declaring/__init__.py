"""From `pipeline.yaml` to typed nodes, or one sentence with file and line."""
