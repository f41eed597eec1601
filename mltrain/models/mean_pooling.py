"""Text classifiers on the mean of an encoder's outputs over the tokens of a text.

So Sentence-BERT pools (Reimers and Gurevych 2019), and encoders that were trained like it: the output at the first
token, which transformers' own classifiers take, says little of the text before they are fine-tuned.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import Tensor, nn

__all__ = ["mean_pooled"]


@functools.cache
def mean_pooled(encoder: type[Any]) -> type[Any]:
    """Return the class of classifiers on a class of transformers' encoders, of which it has the names of weights.

    Its head is one linear layer, `classifier`, after dropout; its forward takes what the encoder's takes, and gives
    `logits` (B, num_labels).
    """
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    family: Any = next(kind for kind in encoder.__mro__[1:] if issubclass(kind, PreTrainedModel))
    # A pooler that nothing stands on would have no gradient.
    takes_pooler = "add_pooling_layer" in inspect.signature(encoder.__init__).parameters

    class MeanPooledClassifier(family):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            base = encoder(config, **({"add_pooling_layer": False} if takes_pooler else {}))
            setattr(self, self.base_model_prefix, base)
            self.dropout = nn.Dropout(_dropout_of(config))
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
            self.post_init()

        def forward(self, input_ids: Tensor, attention_mask: Tensor, **further: Any) -> Any:
            states = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **further).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1)
            return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

        forward.__signature__ = inspect.signature(encoder.forward)  # type: ignore[attr-defined]

    return MeanPooledClassifier


def _dropout_of(config: Any) -> float:
    names = ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob")
    values = (getattr(config, name, None) for name in names)
    return float(next((value for value in values if value is not None), 0.0))
