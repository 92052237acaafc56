"""One program per tool; each is copied into a folder of its own, beside the work that all of them do."""
