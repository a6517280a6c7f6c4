"""From samples to scales: sources of data, histograms of activations, thresholds, tables."""
