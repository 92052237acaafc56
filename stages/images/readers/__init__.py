"""Where images lie and what their files and folders say of them: a reader or a layout per file."""
