"""The browser tests. The folder is a package, unlike other folders of tests: fixtures with package scope then live as
long as the tests of the folder, which share one daemon and one browser.
"""
