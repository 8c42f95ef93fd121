"""The wire: jobs and their streams over HTTP. README.md has the order to read it in."""
