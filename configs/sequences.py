"""Memory of one recurrent layer, tested on generated data:
    python train.py --config=configs/sequences.py:adding --workdir=runs/adding

adding (T = 200), copy_memory (T = 100), temporal_order (6a), listops (small). Another length, another cell:
    --config.data.name=adding/600 --config.model.cell=layers.recurrent.GRU

copy_memory is trained by RMSprop at 5e-4, as in the code of Bai 2018 (arXiv 1803.01271), the others by Adam at 2e-3
(Bai 2018 on adding: 4e-3 for the TCN); gradients are clipped to 1; batches of 32.

Test split, one seed, two CPU cores shared with other work:
    adding          LSTM   mean squared error 0.010 (4 min; the error falls between steps 3,000 and 4,000)
                    GRU    0.0007 after 4,000 of the 8,000 steps (96 s)
                    Elman  0.169: it learns nothing; always predicting 1 has 0.167 (2 min)
    copy_memory     LSTM, GRU, Elman: recall 0.12 and loss 0.1735; guessing has 0.125 and 0.1733 (1 min): recurrent
                    networks fail here, as published
    temporal_order  LSTM   accuracy 1.000 (86 s)
    listops         LSTM   accuracy 0.541 (0.538-0.544, seeds 0 to 2; 2 min); the most common value has 0.153
"""

from training.config import default
from training.overrides import variant

VARIANTS = {
    "adding": {
        "data.name": "adding/200",
        "task.name": "regression.Regression",
        "task.inputs": ("inputs",),
        "train.steps": 8_000,
    },
    "copy_memory": {
        "data.name": "copy_memory/100",
        "task.name": "sequence.TokenClassification",
        "task.inputs": ("tokens",),
        "task.metric_mask": "answer_mask",  # recall of the last ten; the loss covers all positions
        "model.name": "rnn.RecurrentNetwork",
        "model.cell": "layers.recurrent.LSTM",
        "model.widths": (64,),
        "model.vocab_size": 10,
        "model.embedding_width": 10,
        "optimizer.name": "rmsprop",
        "optimizer.learning_rate": 5e-4,
        "train.steps": 4_000,
    },
    "temporal_order": {
        "data.name": "temporal_order/6a",
        "model.vocab_size": 9,
        "model.embedding_width": 9,
        "train.steps": 2_000,
    },
    "listops": {
        "data.name": "listops/small",
        "model.widths": (128,),
        "model.vocab_size": 16,
        "model.embedding_width": 16,
        "train.steps": 4_000,
    },
}


def get_config(arg: str = "adding"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.splits.validation = "validation"
    config.task.inputs = ("tokens", "tokens_lengths")
    config.model.name = "rnn.RecurrentClassifier"
    config.model.cell = "layers.recurrent.LSTM"
    config.model.widths = (64,)
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "constant"
    config.optimizer.clip_norm = 1.0
    config.train.batch_size = 32
    config.eval.every = 0.25
    config.eval.batch_size = 200
    return variant(config, VARIANTS, arg)
