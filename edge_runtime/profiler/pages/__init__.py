"""Records of the profiler as pages: self-contained HTML with plots as inline SVG."""
