"""What is there: shards, artifacts and small files on disk."""
