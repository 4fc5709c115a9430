"""The form in which people rank: a small web server over a ranking store."""
