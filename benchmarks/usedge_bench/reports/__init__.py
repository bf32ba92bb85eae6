"""Reports of the suites as files: read and checked, compared, shown as pages, handed in for a board."""
