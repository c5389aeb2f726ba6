"""A package, unlike the other folders of tests: only so does a fixture live as long as a folder, and one daemon and one
browser serve all tests here and none after them."""
