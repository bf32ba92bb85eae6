"""Recordings: A-scans in a file that survives power cuts; its bytes are described in docs/recordings.md."""

from usedge.recording.reader import Findings, Recording, is_recording
from usedge.recording.writer import Recorder, RecordPolicy

__all__ = ["Findings", "RecordPolicy", "Recorder", "Recording", "is_recording"]
