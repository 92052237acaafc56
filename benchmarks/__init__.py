"""One command per performance claim; each prints one JSON object on its last line."""
