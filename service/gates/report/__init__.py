"""A judged run for those who were not there: JUnit XML for the CI system, one HTML page for people."""
