"""The detectors: their registry and weights, our small one for CPUs, and operators that cost a CPU less."""
