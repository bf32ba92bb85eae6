"""``python -m usedge`` is the ``usedge`` command."""

from usedge.cli import main

if __name__ == "__main__":
    main()
