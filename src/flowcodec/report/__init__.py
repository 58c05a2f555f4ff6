"""Results files as one HTML page. Reads results and kept pictures, never codecs."""
