"""`cnn_text`: word embeddings, convolutions over them and the maximum over the text (Kim 2014, one channel)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, QuestionAnsweringModelOutput, SequenceClassifierOutput

from mltrain.models.text_models import Head, register_text_model

__all__ = ["TextCNN"]

_EMBEDDING_RANGE = 0.25  # of Kim's embeddings that no corpus gave


class TextCNN(nn.Module):
    """Embeddings, convolutions of several widths with ReLU, and a linear layer; no state but weights.

    The features of a token do not depend on how far its text is filled up: what fills counts as zero, as does what lies
    beyond both ends.

    Args:
        head: "sequence_classification": of the maximum of each feature over the text; "question_answering": of the
            features of each token; "encoder": no linear layer, but the features themselves.
        vocab_size, pad_id, num_labels: as in `build_text_model`.
        max_length: not used; a convolution reads texts of any length.
        width: of the embeddings.
        filters: features of each width of convolution.
        kernels: widths of the convolutions, in tokens.
        dropout: share of the features dropped before the linear layer in training.
    """

    def __init__(
        self,
        head: Head,
        vocab_size: int,
        pad_id: int,
        num_labels: int,
        max_length: int,
        width: int = 128,
        filters: int = 100,
        kernels: Sequence[int] = (3, 4, 5),
        dropout: float = 0.5,
    ) -> None:
        if not kernels or min(width, filters, *kernels) < 1:
            raise ValueError("width, filters and kernels are 1 at least")
        super().__init__()
        self.head_kind = head
        self.hidden_size = filters * len(kernels)
        self.kernels = tuple(kernels)
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=pad_id)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, kernel) for kernel in kernels)
        self.dropout = nn.Dropout(dropout)
        outputs = {"sequence_classification": num_labels, "question_answering": 2, "encoder": 0}[head]
        self.head = nn.Linear(self.hidden_size, outputs) if outputs else None
        nn.init.uniform_(self.embedding.weight, -_EMBEDDING_RANGE, _EMBEDDING_RANGE)
        with torch.no_grad():
            self.embedding.weight[pad_id] = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Return what the head gives, as an output of transformers.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 1 for a token, 0 for what fills; None: nothing fills.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        features = self._features(input_ids, mask.unsqueeze(1))
        if self.head is None:
            return BaseModelOutput(last_hidden_state=features.transpose(1, 2))
        if self.head_kind == "sequence_classification":
            return SequenceClassifierOutput(logits=self.head(self.dropout(features.amax(dim=2))))
        start, end = self.head(self.dropout(features.transpose(1, 2))).unbind(dim=2)
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)

    def _features(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Return the features of each token (B, hidden size, L), none below 0; those of what fills are 0."""
        embedded = self.embedding(input_ids).transpose(1, 2)
        embedded = embedded * mask.to(embedded.dtype)
        found = []
        for width, convolution in zip(self.kernels, self.convolutions, strict=True):
            found.append(convolution(F.pad(embedded, ((width - 1) // 2, width // 2))))
        features = torch.cat(found, dim=1)
        return F.relu(features) * mask.to(features.dtype)


register_text_model("cnn_text")(TextCNN)
