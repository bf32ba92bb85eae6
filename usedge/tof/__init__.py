"""Time of flight by classical methods: pickers of the first echo, and the difference between two A-scans."""

from usedge.tof.classical import (
    CLASSICAL,
    Aic,
    ClassicalPicker,
    Envelope,
    Threshold,
    Xcorr,
    akaike,
    classical_picker,
)
from usedge.tof.differential import DTOF_ABSTENTIONS, Difference, Differential, delay_bound_s, mean_ascan
from usedge.tof.gated import DETECTION, QUANTISATION_RMS, RAYLEIGH_P20, crossing, hann_burst, vertex
from usedge.tof.peak import echo_peak
from usedge.tof.pick import Pick, Picker
from usedge.tof.spectrum import MIN_PERIODS, MIN_SAMPLES, estimate_f0

__all__ = [
    "CLASSICAL", "DETECTION", "DTOF_ABSTENTIONS", "MIN_PERIODS", "MIN_SAMPLES", "QUANTISATION_RMS",
    "RAYLEIGH_P20", "Aic", "ClassicalPicker", "Difference", "Differential", "Envelope", "Pick", "Picker",
    "Threshold", "Xcorr", "akaike", "classical_picker", "crossing", "delay_bound_s", "echo_peak",
    "estimate_f0", "hann_burst", "mean_ascan", "vertex",
]
