"""USFP, the ultrasound frame protocol: the wire between a front end's firmware and its host.

``usfp`` holds the frames and their decoder, ``transducer`` a device on a pseudo-terminal that speaks them,
``native`` the project's own C encoder called from Python. The byte tables are in ``PROTOCOL.md``.
"""
