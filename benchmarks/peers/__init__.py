"""The same two stages over the same pictures, by this project and by other tools."""
