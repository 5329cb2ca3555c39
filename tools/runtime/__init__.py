"""Services for every command: orderly ending, safe writing of files, progress."""
