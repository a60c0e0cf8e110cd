"""Implicit regularisation of ReLU networks, measured exactly along paths between samples.

The public names are in the stub beside this file; each is imported when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
