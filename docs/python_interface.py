# %% [markdown]
# # mltrain from Python
#
# Everything that the command line does can be done from a script or a notebook. Run this file as it is
# (`python docs/python_interface.py`), or cell by cell in an editor that knows `# %%`.

# %%
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

import mltrain

# %% [markdown]
# ## Data
#
# 1,797 handwritten digits as PNG files, divided into a test set and five folds.

# %%
mltrain.make_data("digits", Path("data/digits"))
mltrain.split_folder("data/digits/raw", folds=5)

# %% [markdown]
# ## Train
#
# `config` is a YAML file or a dict; `overrides` beats it, with dotted keys or nested as the file is. The run leaves the
# same folder as on the command line.

# %%
config = {
    "task": "image_classification",
    "data": {
        "data_dir": "data/digits",
        "image_size": 8,
        "image_mode": "L",
        "transforms": {"resize": "stretch", "normalize": "half"},
    },
    "model": {"architecture": "simple_cnn"},
    "training": {"num_epochs": 20, "batch_size": 32},
    "optimizer": {"lr": 3e-3},
    "tracking": {"log_every_n_steps": 10, "mlflow": {"enabled": False}},
}
result = mltrain.train(config, overrides={"training": {"num_epochs": 2}, "data.fold": 1})
print(result)
print("test accuracy:", result.metrics["test/accuracy"])
print("run folder:", result.folder)

# %% [markdown]
# ## History
#
# Every logged value as a DataFrame: one row a record, NaN where a value was not logged.

# %%
losses = result.history[["step", "epoch", "train/step_loss"]].dropna()
print(losses.tail())
print(result.history.set_index("epoch")[["train/loss", "val/loss", "val/accuracy"]].dropna())

# %% [markdown]
# ## The model
#
# `result.model` holds the chosen weights. `predict` takes paths or images of Pillow; `load_model` reads the same
# package later, without the run.

# %%
images = sorted(Path("data/digits/raw/7").glob("*.png"))[:3]
print(result.predict(images))
packed = mltrain.load_model(result.folder)
assert packed.predict(images) == result.predict(images)

# %% [markdown]
# ## One line
#
# `run_training` takes a YAML file, or the name of one in the folder `configs`.

# %%
Path("configs").mkdir(exist_ok=True)
if not Path("configs/digits.yaml").exists():
    Path("configs/digits.yaml").write_text((Path(result.folder) / "config.yaml").read_text())
short = mltrain.run_training(
    name="digits", num_epochs=1, batch_size=16, gradient_accumulation_steps=2, learning_rate=0.002,
    overrides={"tracking.mlflow.enabled": False}, verbose=False,
)  # fmt: skip
print(short)

# %% [markdown]
# ## Your own module and data sets
#
# `Trainer` takes any `torch.nn.Module` and map-style data sets of `(input, target)`. Their random transforms may draw
# from `torch`, `numpy.random` and `random`: the generators are seeded for each item, so the run is the same for any
# number of workers and continues exactly after an interruption.


# %%
class Moons(Dataset):
    """Points in two interleaved half circles; noise is added when a point is read."""

    def __init__(self, count, noise):
        self.count, self.noise = count, noise

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        angle = torch.tensor(index / self.count * torch.pi)
        label = index % 2
        point = torch.stack([angle.cos() + label, angle.sin() * (1 - 2 * label) + 0.5 * label])
        return point + self.noise * torch.randn(2), label


torch.manual_seed(0)
module = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
trainer = mltrain.Trainer(
    module,
    Moons(400, 0.1),
    Moons(100, 0.1),
    {
        "data": {"num_workers": 2},
        "training": {"num_epochs": 10, "batch_size": 20},
        "optimizer": {"lr": 0.01},
        "tracking": {"mlflow": {"enabled": False}},
    },
)
own = trainer.fit(verbose=False)
print(own)
assert own.model is module
assert own.metrics["val/accuracy"] > 0.9

# %% [markdown]
# A loss of your own gives one value for each example: the gradient of a step is that of the mean over its whole window,
# however that is cut into microbatches and processes.


# %%
class Noisy(Dataset):
    """A line with noise."""

    def __len__(self):
        return 200

    def __getitem__(self, index):
        x = torch.tensor([index / 100 - 1])
        return x, 3 * x + 0.1 * torch.randn(1)


def squared_error(outputs, targets):
    return (outputs - targets).square().mean(dim=1)


line = nn.Linear(1, 1)
fitted = mltrain.Trainer(
    line,
    Noisy(),
    config={
        "training": {"num_epochs": 20, "batch_size": 20},
        "data": {"num_workers": 0},
        "optimizer": {"lr": 0.1},
        "tracking": {"mlflow": {"enabled": False}},
    },
    loss=squared_error,
    metrics={"mae": lambda outputs, targets: (outputs - targets).abs().mean(dim=1)},
).fit(verbose=False)
print(fitted.metrics, line.weight.item())
