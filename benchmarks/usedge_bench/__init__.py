"""The benchmark suites: from the last byte on the wire to the reading, with peers in the same run."""
