"""The stream: from a mixture and a position to batches, for any torch trainer.

`Stream` gives batches, `MixtureView` the sample at any position; `Fit` makes squares of images, `Sequences` tokens and
images of samples of every kind, which `Packing` packs. What else is here is what these take and give. docs/stream.md
shows their use.
"""

from curate.stream.batches import PackedBatch, Packing
from curate.stream.documents import CutRule
from curate.stream.forms import FormConfig, SequenceForm
from curate.stream.packing import PackingError, PackLimits
from curate.stream.prompts import Prompts, TextChooser
from curate.stream.reading import DrawnSample, Prepare, ReadOptions, Replaced, Share, StreamError
from curate.stream.resize import Fit
from curate.stream.sample_lengths import SampleLengths
from curate.stream.sequences import Sequences, Sizes
from curate.stream.served import ServedTally
from curate.stream.stages import Stages
from curate.stream.stream import Batch, Stream
from curate.stream.view import MixtureView
from curate.tokens.encoders import TextCode, text_code
from curate.tokens.segments import attention_mask

__all__ = [
    "Batch",
    "CutRule",
    "DrawnSample",
    "Fit",
    "FormConfig",
    "MixtureView",
    "PackLimits",
    "PackedBatch",
    "Packing",
    "PackingError",
    "Prepare",
    "Prompts",
    "ReadOptions",
    "Replaced",
    "SampleLengths",
    "SequenceForm",
    "Sequences",
    "ServedTally",
    "Share",
    "Sizes",
    "Stages",
    "Stream",
    "StreamError",
    "TextChooser",
    "TextCode",
    "attention_mask",
    "text_code",
]
