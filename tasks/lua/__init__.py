"""The scripts that change a job in Redis: one file, one script; store.py and eventlog.py call them."""
