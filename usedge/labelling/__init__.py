"""Labels for recorded A-scans: proposed by pickers, decided by a person in a local web page.

``task.py`` reads what is to be labelled, ``proposals.py`` proposes and orders, ``session.py`` holds the
decisions and writes the labelled file, ``journal.py`` keeps every decision on disk, ``server.py`` shows the
page.
"""
