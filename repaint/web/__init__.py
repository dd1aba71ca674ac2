"""The web page: one photo at a time, damage shown and corrected by hand, restored while one looks on."""
