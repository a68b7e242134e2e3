"""The archive's web pages, served from the catalogue.

A page is made in four steps, each of which can be tested without the next:
`collect` reads the catalogue into plain dataclasses, `compute` derives what is
shown, `plot` and `markup` make bokeh figures and HTML of it, `pages` puts them
together for Panel. `app` serves them.
"""
