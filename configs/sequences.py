"""Procedural tests of memory by one recurrent layer:
    python train.py --config=configs/sequences.py:adding --workdir=runs/adding

adding (T = 200), copy_memory (T = 100), temporal_order (6a), listops (small). Another length, another cell:
    --config.data.name=adding/600 --config.model.cell=layers.recurrent.GRU

Copy memory by RMSprop at 5e-4, as the code of Bai 2018 (arXiv 1803.01271), the others by Adam at 2e-3 (its adding: 4e-3
for the TCN); gradients clipped to 1, batches of 32.

Test split, one seed, two CPU cores shared with other work:
    adding          LSTM   mean squared error 0.010 (4 min; it breaks through between steps 3,000 and 4,000)
                    GRU    0.0007 after 4,000 of the 8,000 steps (96 s)
                    Elman  0.169: nothing learnt, as always answering 1 (0.167) (2 min)
    copy_memory     LSTM, GRU, Elman: recall 0.12 and loss 0.1735, the guess's 0.125 and 0.1733 (1 min): as published,
                    recurrent nets fail here
    temporal_order  LSTM   accuracy 1.000 (86 s)
    listops         LSTM   accuracy 0.541 (0.538-0.544, seeds 0 to 2; 2 min); the commonest value alone has 0.153
"""

from core.errors import UserError, nearest
from training.config import default

# argument -> (data set, units, steps, tokens)
SETS = {
    "adding": ("adding/200", 64, 8_000, None),
    "copy_memory": ("copy_memory/100", 64, 4_000, 10),
    "temporal_order": ("temporal_order/6a", 64, 2_000, 9),
    "listops": ("listops/small", 128, 4_000, 16),
}


def get_config(name: str = "adding"):
    """Returns the config for one of SETS."""
    if name not in SETS:
        raise UserError(f"configs/sequences.py:{name}: {nearest(name, SETS)}")
    config = default()
    config.data.name, units, steps, tokens = SETS[name]
    config.data.splits = {"train": "train", "validation": "validation", "test": "test"}
    config.model.name = "rnn.RecurrentClassifier"
    config.model.cell = "layers.recurrent.LSTM"
    config.model.widths = (units,)
    if tokens:
        config.model.vocab_size = config.model.embedding_width = tokens
    config.task.inputs = ("tokens", "tokens_lengths") if tokens else ("inputs",)
    if name == "adding":
        config.task.name = "regression.Regression"
    if name == "copy_memory":
        config.model.name = "rnn.RecurrentNetwork"
        config.task.name = "sequence.TokenClassification"
        config.task.inputs = ("tokens",)
        config.task.metric_mask = "answer_mask"  # recall of the last ten; the loss is of all positions
    config.optimizer.name, config.optimizer.learning_rate = "adam", 2e-3
    if name == "copy_memory":
        config.optimizer.name, config.optimizer.learning_rate = "rmsprop", 5e-4
    config.optimizer.schedule = "constant"
    config.optimizer.clip_norm = 1.0
    config.train.steps, config.train.batch_size = steps, 32
    config.eval.every, config.eval.batch_size = steps // 4, 200
    config.log.every = 100
    return config
