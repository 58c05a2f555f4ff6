"""Rate-distortion measurements on real files, ours and others'."""
