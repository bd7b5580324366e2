"""TFDS builders of our own, prepared on first use without TensorFlow: sets that ship inside scikit-learn, sets that are
drawn, and, from a download or the user's disk, sets of raw files."""

from data.builders.casing import Truecasing
from data.builders.digits import Digits
from data.builders.listops import ListOps
from data.builders.music import PolyMusic
from data.builders.news import AGNewsTopics
from data.builders.nlvr import NLVR
from data.builders.scenes import Scenes
from data.builders.sequences import Adding, CopyMemory, StringReversal, TemporalOrder
from data.builders.series import ETT
from data.builders.speech import JoinedDigits
from data.builders.tables import BreastCancer, Diabetes, Iris, Wine
from data.builders.translation import Multi30k

TABLES = (BreastCancer, Diabetes, Iris, Wine)
SEQUENCES = (Adding, CopyMemory, TemporalOrder, StringReversal, ListOps)
RAW = (Multi30k, AGNewsTopics, ETT, PolyMusic, JoinedDigits, NLVR, Truecasing)  # all others need no file
BUILDERS = {builder.name: builder for builder in (Digits, *TABLES, *SEQUENCES, Scenes, *RAW)}
