"""The Python of the book: experiments, evidence, grids of runs, and what makes the site.

The public names are in the stub beside this file; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
