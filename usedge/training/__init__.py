"""Pretraining and fine-tuning on a workstation; needs the extra ``train``."""
