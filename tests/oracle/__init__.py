"""A second, plain implementation of the published method, written without sight of `repaint`, to compare it against."""
