"""From a ToF checkpoint to the one bundle that a device needs: convert, quantise, check parity, write."""
