"""Label codes of HSI-Drive by the names that the simulator uses."""

from typing import Final

UNLABELLED: Final = 0
ROAD: Final = 1
MARKS: Final = 2
VEGETATION: Final = 3
PAINTED_METAL: Final = 4
SKY: Final = 5
STONE: Final = 6
PERSON: Final = 7
WATER: Final = 8
METAL: Final = 9
GLASS: Final = 10
