# The module under `signal`, which costs 6 ms less to import because it makes no enumerations. Same functions.
from signal import *
