"""The pipeline: chapters go through papermill and Jupyter Book and come out as a static site.

Chapters import nothing from here, so that a plain ``papermill`` runs them just as well.
"""
