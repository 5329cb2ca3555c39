"""The HTML report: its page, its pictures, and what they are drawn from."""
