from .notebook import check as check
from .registry import find as find
from .schema import Parameter as Parameter
from .schema import Parameters as Parameters
